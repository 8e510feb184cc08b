"""Compression of tables that are already trained."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from annvq.arguments import as_count
from annvq.errors import AnnvqError, NonFiniteError, ParameterError
from annvq.learn.runtime import torch
from annvq.tables.bag import TableBag
from annvq.tables.distillation import distill
from annvq.tables.frequencies import as_frequencies
from annvq.tables.models.replaceable import PLAIN, Choice, Filter, check_compressible, others_with
from annvq.tables.registry import table_method
from annvq.tables.table import Table

_LEAST_BYTES = 65_536
_log = logging.getLogger("annvq")


def compress(
    what: Any,
    method: str,
    *,
    ratio: float | None = None,
    bytes: int | None = None,
    frequencies: Any = None,
    seed: int = 0,
    finetune_steps: int = 0,
    min_bytes: int = _LEAST_BYTES,
    filter: Filter | None = None,
) -> Any:
    """Compress a trained table, or the tables of a model.

    For a model, the logger "annvq" (or stderr, if there is no handler) reports what was replaced, what was left as it
    is, and why. Embeddings that are subclasses or have hooks, parametrizations, max_norm or scale_grad_by_freq are left
    as they are, because a table does not do what they do.

    Parameters
    ----------
    what
        nn.Embedding, nn.EmbeddingBag, or a module that contains some; it is not changed.
    method
        One of METHODS that can be made from a trained table.
    ratio, bytes
        The budget, given as one of the two; for a model, it is that of all compressed tables together.
    frequencies
        How often each row is used, (n,); for a model, by name of the table's module. None: all rows count equally, and
        methods that treat frequent rows differently take the first ones to be frequent.
    seed
        The same seed gives the same result.
    finetune_steps
        Steps of gradient descent towards the trained rows after `approximate`, 1,024 rows each.
    min_bytes
        For a model, tables below this size are left alone.
    filter
        For a model, a function of a module's name and the module that says whether it may be replaced. None: all may.

    Returns
    -------
    compressed
        A `Table`, a `TableBag`, or a copy of the model. Rows are float32; gradients are sparse if they were before and
        the method supports it. A padding row of zeros stays so; any other padding row becomes an ordinary row.
        Embeddings that share their weight share a table; another layer that shares it (a tied output layer) keeps it as
        it is.

    Raises
    ------
    BudgetError, ParameterError, ShapeError, NonFiniteError
        The budget cannot be met; a method or an argument is outside its range; a table cannot stand in for the
        embedding; weights have NaN or infinity.

    Examples
    --------
    >>> import torch
    >>> embedding = torch.nn.Embedding(1000, 64)
    >>> table = annvq.tables.compress(embedding, "PQ", ratio=4)
    >>> table.nbytes, table(torch.tensor([3, 14])).shape
    (36096, torch.Size([2, 64]))
    >>> model = torch.nn.Sequential(embedding, torch.nn.Linear(64, 1))
    >>> annvq.tables.compress(model, "INT8", min_bytes=0)
    Sequential(
      (0): INT8(1000, 64, nbytes=68000)
      (1): Linear(in_features=64, out_features=1, bias=True)
    )

    """
    cls = table_method(method)
    seed = as_count("seed", seed, least=0, most=2**30)
    steps = as_count("finetune_steps", finetune_steps, least=0)
    least = as_count("min_bytes", min_bytes, least=0)
    if isinstance(what, PLAIN):
        check_compressible(what)
        return _in_place_of(what, _table(what, cls, ratio, bytes, frequencies, seed, steps))
    if not isinstance(what, torch.nn.Module):
        raise ParameterError(f"expected nn.Embedding, nn.EmbeddingBag or a model, not {type(what).__name__}")
    return _model(what, cls, ratio, bytes, frequencies, seed, steps, Choice.of(what, least, filter))


def tables_of(model: Any, min_bytes: int = 0) -> dict[str, Any]:
    """Return the embeddings of a model that `compress` replaces, of at least this many bytes, by name."""
    return Choice.of(model, min_bytes).found


def replace(model: Any, old: Any, new: Any) -> int:
    """Replace a module with another wherever a model holds it; return the number of places."""
    places = 0
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
                places += 1
    return places


def _model(
    model: Any,
    cls: type[Table],
    ratio: float | None,
    bytes: int | None,
    frequencies: Any,
    seed: int,
    steps: int,
    choice: Choice,
) -> Any:
    if not choice.found:
        why = f" ({choice.reasons()})" if choice.left else ""
        raise ParameterError(f"{type(model).__name__} has no nn.Embedding or nn.EmbeddingBag to compress{why}")
    if frequencies is not None and not (isinstance(frequencies, Mapping) and set(frequencies) <= set(choice.found)):
        raise ParameterError(f"frequencies of a model go by the names of its tables: {', '.join(choice.found)}")
    if ratio is None and bytes is not None:
        weights = {id(module.weight): module.weight.numel() for module in choice.found.values()}
        ratio, bytes = 4 * sum(weights.values()) / as_count("bytes", bytes), None
    copied = copy.deepcopy(model)
    found = {name: copied.get_submodule(name) for name in choice.found}
    given = {} if frequencies is None else {id(found[name].weight): counts for name, counts in frequencies.items()}
    known, made = {id(module) for module in found.values()}, {}
    for name, module in found.items():
        key = (id(module.weight), module.padding_idx, module.sparse, module.training)
        try:
            if key not in made:
                made[key] = _table(module, cls, ratio, bytes, given.get(id(module.weight)), seed, steps)
        except AnnvqError as error:
            raise type(error)(f"table {name!r}: {error}") from None
        tied = others_with(module.weight, copied, known)
        _tell(name, module, made[key], tied)
        replace(copied, module, _in_place_of(module, made[key]))
    for reason, names in choice.left.items():
        _log.warning("annvq: left as they are: %s (%s)", ", ".join(names), reason)
    return copied


def _tell(name: str, module: Any, table: Table, tied: list[str]) -> None:
    n, d = module.weight.shape
    kept = f"; {', '.join(tied)} shares its weight and keeps it" if tied else ""
    sizes = f"{table.nbytes:,} bytes of {4 * n * d:,}"
    _log.warning("annvq: %s, %s of %d x %d: %s, %s%s", name, type(module).__name__, n, d, table.made_by, sizes, kept)


def _table(
    module: Any, cls: Any, ratio: float | None, bytes: int | None, frequencies: Any, seed: int, steps: int
) -> Table:
    weight = weight_of(module)
    n, d = weight.shape
    counts = None if frequencies is None else as_frequencies(frequencies, n)
    padding = module.padding_idx
    if padding is not None and weight[padding].any():
        padding = None
    more: dict[str, Any] = {"frequencies": counts} if cls.uses_frequencies else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spread = max(float(weight.std()), 1e-6)
        make: Any = cls  # the methods' constructors share these arguments, `Table` takes a budget
        table: Table = make(n, d, ratio=ratio, bytes=bytes, padding_idx=padding, std=spread, **more)
        table.approximate(weight, frequencies=counts, seed=seed)
        table = table.finish()
        distill(table, weight, frequencies=counts, steps=steps, seed=seed)
    table.sparse = module.sparse and table.has_sparse_gradients
    return table.to(module.weight.device).train(module.training).requires_grad_(module.weight.requires_grad)


def _in_place_of(module: Any, table: Table) -> Table | TableBag:
    """Return a table as what stands in for an embedding: rows, or bags pooled as the embedding's are."""
    if isinstance(module, torch.nn.EmbeddingBag):
        return table.bag(module.mode, include_last_offset=module.include_last_offset).train(module.training)
    return table


def weight_of(module: Any) -> np.ndarray:
    """Return a trained table (n, d) as float32; NonFiniteError if there is NaN or infinity."""
    weight = module.weight.detach().float().cpu().numpy()
    if not np.isfinite(weight).all():
        raise NonFiniteError(f"row {int(np.argmin(np.isfinite(weight).all(axis=1)))} holds NaN or infinity")
    return np.array(weight, order="C")

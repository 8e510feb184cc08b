"""Tables that are trained already, in fewer bytes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from annvq.arguments import as_count
from annvq.errors import AnnvqError, NonFiniteError, ParameterError
from annvq.learn.runtime import torch
from annvq.tables.bag import TableBag
from annvq.tables.distillation import distill
from annvq.tables.registry import method_named
from annvq.tables.table import Table, as_frequencies

_LEAST_BYTES = 65_536
PLAIN = (torch.nn.Embedding, torch.nn.EmbeddingBag)


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
) -> Any:
    """Return a trained table, or a model with its tables, in fewer bytes.

    Parameters
    ----------
    what
        nn.Embedding, nn.EmbeddingBag, or a module that holds such; it is left as it is.
    method
        One of METHODS that can be made from a trained table.
    ratio, bytes
        The budget, one of them: of a model, of all tables that are compressed together.
    frequencies
        How often each row is used, (n,); of a model, by name of the table's module. None: all rows count alike,
        and methods that treat frequent rows otherwise take the first ones for frequent.
    seed
        Same seed, same result.
    finetune_steps
        Steps of gradient descent towards the trained rows after `approximate`, 1,024 rows each.
    min_bytes
        Of a model, tables below this size are left alone.

    Returns
    -------
    compressed
        A `Table`, a `TableBag`, or a copy of the model. Rows come as float32, gradients are sparse where they were
        so and the method has such. A padding row that is zeros stays so; another is a row like any other. A layer
        that shares the weight (a tied output) keeps it as it is.

    Raises
    ------
    BudgetError, ParameterError, ShapeError, NonFiniteError
        A budget that cannot be met; a method or an argument outside its range; weights with NaN or infinity.

    """
    cls = method_named(method)
    seed = as_count("seed", seed, least=0, most=2**30)
    steps = as_count("finetune_steps", finetune_steps, least=0)
    least = as_count("min_bytes", min_bytes, least=0)
    if isinstance(what, PLAIN):
        return _compressed(what, cls, ratio, bytes, frequencies, seed, steps)
    if not isinstance(what, torch.nn.Module):
        raise ParameterError(f"expected nn.Embedding, nn.EmbeddingBag or a model, not {type(what).__name__}")
    return _model(what, cls, ratio, bytes, frequencies, seed, steps, least)


def tables_of(model: Any, min_bytes: int = 0) -> dict[str, Any]:
    """Return the nn.Embedding and nn.EmbeddingBag modules of a model of at least so many bytes, by name."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, PLAIN)}
    return {name: module for name, module in found.items() if module.weight.numel() * 4 >= min_bytes}


def replace(model: Any, old: Any, new: Any) -> int:
    """Put a module in the place of another wherever a model holds it; return in how many places."""
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
    min_bytes: int,
) -> Any:
    found = tables_of(model, min_bytes)
    if not found:
        raise ParameterError(f"{type(model).__name__} has no nn.Embedding or nn.EmbeddingBag of {min_bytes} bytes")
    if frequencies is not None and not (isinstance(frequencies, Mapping) and set(frequencies) <= set(found)):
        raise ParameterError(f"frequencies of a model go by the names of its tables: {', '.join(found)}")
    if ratio is None and bytes is not None:
        whole = 4 * sum(module.weight.numel() for module in found.values())
        ratio, bytes = whole / as_count("bytes", bytes), None
    copied = copy.deepcopy(model)
    for name, module in tables_of(copied, min_bytes).items():
        try:
            given = None if frequencies is None else frequencies.get(name)
            replace(copied, module, _compressed(module, cls, ratio, bytes, given, seed, steps))
        except AnnvqError as error:
            raise type(error)(f"table {name!r}: {error}") from None
    return copied


def _compressed(
    module: Any, cls: Any, ratio: float | None, bytes: int | None, frequencies: Any, seed: int, steps: int
) -> Table | TableBag:
    if module.max_norm is not None or module.scale_grad_by_freq:
        raise ParameterError("max_norm and scale_grad_by_freq have no meaning for a compressed table: expected none")
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
    table.to(module.weight.device).train(module.training).requires_grad_(module.weight.requires_grad)
    if isinstance(module, torch.nn.EmbeddingBag):
        return table.bag(module.mode, include_last_offset=module.include_last_offset)
    return table


def weight_of(module: Any) -> np.ndarray:
    """Return a trained table (n, d) as float32; NonFiniteError where there is NaN or infinity."""
    weight = module.weight.detach().float().cpu().numpy()
    if not np.isfinite(weight).all():
        raise NonFiniteError(f"row {int(np.argmin(np.isfinite(weight).all(axis=1)))} holds NaN or infinity")
    return np.array(weight, order="C")

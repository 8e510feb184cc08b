"""What all tables share: the interface of nn.Embedding, checks of ids, bytes, export."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.arguments import as_count
from annvq.errors import DtypeError, ParameterError
from annvq.learn.runtime import torch
from annvq.renamed import former_names, unstated_metric
from annvq.tables import state
from annvq.tables.bag import TableBag
from annvq.tables.frozen.form import Form
from annvq.tables.frozen.table import FrozenTable

if TYPE_CHECKING:
    from torch import Tensor

    from annvq.index.index import Index
    from annvq.tables.budget import Budget

_ROWS_AT_ONCE = 16_384


class Table(torch.nn.Module, ABC):
    """A compressed embedding table, used as torch.nn.Embedding is.

    A training loop drives every method by the same five calls, which do nothing if a method has no use for them:
    `penalty` is added to the loss, `step_end` follows the optimizer's step, `search` takes a loss on validation data,
    and `finish` returns the table of the next stage until `is_final`.

    A state dictionary fits every new table of the same arguments, whatever stage it was taken at: that of a finished
    table finishes the one that loads it. Make optimizers after loading. A state of another method or of other sizes
    raises ParameterError, ShapeError or DtypeError.

    Parameters
    ----------
    budget
        Rows, dimension and bytes.
    padding_idx
        A row that is zeros, gets no gradient and does not count in bags, or None.
    sparse
        Whether gradients of the rows are sparse tensors, as SparseAdam takes them. Parameters that all rows share, such
        as codebooks and projections, have dense gradients either way.

    Raises
    ------
    ParameterError
        padding_idx is outside the table, or the method has no sparse gradients.

    Examples
    --------
    >>> import torch
    >>> layer = annvq.tables.CompoEmb(100_000, 64, ratio=10)
    >>> layer(torch.tensor([3, 14])).shape
    torch.Size([2, 64])
    >>> layer.nbytes <= 4 * 100_000 * 64 / 10
    True

    """

    method: ClassVar[str]
    has_sparse_gradients: ClassVar[bool] = False
    uses_frequencies: ClassVar[bool] = False  # the constructor takes them
    is_final: ClassVar[bool] = True
    next_model: ClassVar[str] = "done"  # after `finish`: "fresh", "continue" or "done" with training
    structure: ClassVar[tuple[str, ...]] = ()  # attributes by which tensors of the same shapes mean other rows

    def __init__(self, budget: Budget, padding_idx: int | None, sparse: bool) -> None:
        super().__init__()
        self._budget = budget
        self.num_embeddings, self.embedding_dim, self.budget_bytes = budget.n, budget.d, budget.bytes
        self.padding_idx = None if padding_idx is None else self._as_row(padding_idx)
        if sparse and not self.has_sparse_gradients:
            raise ParameterError(f"{self.method} has no sparse gradients: expected sparse=False")
        self.sparse = bool(sparse)

    def _as_row(self, padding_idx: Any) -> int:
        """Return the padding row; as in nn.Embedding, -1 is the last row."""
        if isinstance(padding_idx, int) and -self.num_embeddings <= padding_idx < 0:
            return padding_idx + self.num_embeddings
        return as_count("padding_idx", padding_idx, least=0, most=self.num_embeddings - 1)

    @property
    def made_by(self) -> str:
        """Name of the method that made it."""
        return self.method

    @abstractmethod
    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,) int64 that are in the table; padding is ignored."""

    @abstractmethod
    def form(self) -> Form:
        """Return the arrays for inference."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""

    def forward(self, ids: Tensor) -> Tensor:
        """Return rows (..., d) of ids (...), int32 or int64.

        Raises
        ------
        DtypeError, ParameterError
            Ids have another dtype, or one is outside 0 .. n - 1.

        """
        flat = self.check(ids).reshape(-1)
        found = self.rows(flat)
        if self.padding_idx is not None:
            found = found.masked_fill((flat == self.padding_idx)[:, None], 0.0)
        return found.reshape(*ids.shape, self.embedding_dim)

    def check(self, ids: Tensor) -> Tensor:
        """Return ids as int64; DtypeError or ParameterError if they are not valid ids."""
        if not isinstance(ids, torch.Tensor) or ids.dtype not in (torch.int32, torch.int64):
            kind = ids.dtype if isinstance(ids, torch.Tensor) else type(ids).__name__
            raise DtypeError(f"ids of {kind}, expected a tensor of int32 or int64")
        if ids.numel():
            low, high = (int(end) for end in torch.aminmax(ids))
            if low < 0 or high >= self.num_embeddings:
                wrong = low if low < 0 else high
                raise ParameterError(
                    f"id {wrong} of a table of {self.num_embeddings} rows, expected 0 to {self.num_embeddings - 1}"
                )
        return ids.long()

    def bag(self, mode: str = "mean", *, include_last_offset: bool = False) -> TableBag:
        """Return this table as a replacement for nn.EmbeddingBag."""
        return TableBag(self, mode, include_last_offset=include_last_offset)

    @torch.no_grad()
    def decoded(self) -> np.ndarray:
        """Return all rows (n, d) float32 as they are at inference; the padding row is zeros."""
        was_training = self.training
        self.eval()
        rows = np.empty((self.num_embeddings, self.embedding_dim), np.float32)
        device = next(chain(self.parameters(), self.buffers())).device
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            ids = torch.arange(start, min(start + _ROWS_AT_ONCE, len(rows)), device=device)
            rows[start : start + len(ids)] = self(ids).float().cpu().numpy()
        self.train(was_training)
        return rows

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Come as near to a trained table as the method can without training steps.

        Parameters
        ----------
        weight
            (n, d) float32.
        frequencies
            (n,) float64, the weight of every row; None: all are equal.
        seed
            Seed of all random draws.

        Raises
        ------
        ParameterError
            The method, or a mode of it, has to be trained.

        """
        raise ParameterError(f"{self.method} cannot be made from a trained table: it is trained with its model")

    def freeze(self) -> FrozenTable:
        """Return the table for inference: NumPy arrays, no torch."""
        return FrozenTable(self.made_by, self.form(), self.padding_idx)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the table for inference to a safetensors file, which `annvq.tables.open` reads."""
        self.freeze().save(path)

    def to_index(self, metric: str | None = None) -> Index:
        """Return an index over the table's codes; ids are the rows' numbers.

        Parameters
        ----------
        metric
            "ip" or "l2". The default, which is deprecated, is "ip".

        Raises
        ------
        ParameterError
            The method keeps no codes that the scan can read, or the metric is another one.

        """
        from annvq.tables.index import index_of

        if metric is None:
            metric = unstated_metric("ip")
        return index_of(self.freeze(), metric)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the parameters as groups for an optimizer whose learning rate is ``lr``."""
        return [{"params": list(self.parameters()), "lr": lr}]

    def penalty(self) -> Tensor | float:
        """Return the penalty that is to be added to the loss, for the rows last looked up."""
        return 0.0

    def step_end(self) -> None:
        """Do what the method has to do after every optimizer step."""

    def search(self, loss: Callable[[], Tensor]) -> None:
        """Move what decides the structure along the gradient of a loss on validation data.

        Parameters
        ----------
        loss
            Computes the loss with this table in its model; called once if the method searches in this way.

        """

    def finish(self, evaluate: Callable[[], float] | None = None) -> Table:
        """End this stage and return the table of the next; a final table returns itself.

        Parameters
        ----------
        evaluate
            Quality of the model with this table on validation data, larger is better: some methods try several
            structures.

        """
        return self

    def description(self) -> dict[str, Any]:
        """Return what decides the meaning of the tensors: method, stage, sizes and `structure`."""
        own = {name: getattr(self, name) for name in (*state.SIZES, *self.structure)}
        return {"method": self.made_by, "is_final": self.is_final, **own}

    def get_extra_state(self) -> Tensor:
        """Return what a state dictionary says of the table besides its tensors."""
        return state.written(self.description())

    def set_extra_state(self, state: Any) -> None:
        """Do nothing: `prepare` has checked it before any tensor was loaded."""

    def prepare(self, given: Mapping[str, Any], prefix: str) -> None:
        """Take the sizes that a state needs; raise, as `annvq.tables.state.check` does, if it does not fit.

        Parameters
        ----------
        given
            Tensors by name.
        prefix
            What the names of this table's begin with.

        """
        state.check(self.description(), self.state_dict(prefix=prefix), given, prefix)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: Any,
        unexpected_keys: Any, error_msgs: Any,
    ) -> None:  # fmt: skip
        self.prepare(state_dict, prefix)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def extra_repr(self) -> str:
        """Return what repr() shows."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}, nbytes={self.nbytes}{padding}"


def inference_array(tensor: Tensor, dtype: Any = None) -> np.ndarray:
    """Return a tensor as a read-only array for inference; floats as float32 unless said otherwise."""
    plain = tensor.detach().cpu()
    kind = dtype if dtype is not None else (np.float32 if plain.is_floating_point() else None)
    plain = plain.float() if plain.dtype == torch.bfloat16 else plain  # which NumPy does not have
    array = np.array(plain.numpy(), dtype=kind, order="C")
    array.flags.writeable = False
    return array


def gathered(weight: Tensor, places: Tensor, sparse: bool) -> Tensor:
    """Return rows of a weight (rows, width) with dense or sparse gradients."""
    return torch.nn.functional.embedding(places, weight, sparse=sparse)


def of_distinct(rows: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """Return rows (m, d) of ids (m,), made once per distinct id; it pays if making rows costs more than sorting ids."""
    distinct, places = ids.unique(return_inverse=True)
    return rows(distinct)[places]


def normal(*shape: int, std: float) -> Any:
    """Return a parameter drawn from a normal distribution by torch's generator."""
    return torch.nn.Parameter(torch.randn(*shape) * std)


def set_(parameter: Tensor, values: np.ndarray) -> None:
    """Give a parameter or buffer these values."""
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values)).to(parameter.dtype).reshape(parameter.shape))


__getattr__ = former_names(__name__, {"array_of": "inference_array"})

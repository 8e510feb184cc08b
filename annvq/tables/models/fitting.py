"""The stages of a search, run with a user's own training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from annvq.errors import ParameterError
from annvq.tables.models.compression import replace
from annvq.tables.table import Table


@dataclass(frozen=True)
class Fitted:
    """A trained model and its final table.

    Parameters
    ----------
    model
        The model that holds the table.
    table
        The final table, which can be exported.
    stages
        How many times the model was trained.

    """

    model: Any
    table: Table
    stages: int


def fit(
    table: Table,
    make: Callable[[Table], Any],
    train: Callable[[Any, Table], None],
    *,
    evaluate: Callable[[Any], float] | None = None,
) -> Fitted:
    """Train a model with a table through all stages of the table's method.

    A method that searches trains a model, settles on a structure, and trains again: a new model (AutoDim, OptEmbed,
    PEP), the same one with the pruned table (DNIS, AutoSrh), or not at all (DeepLight). Others train once.

    Parameters
    ----------
    table
        A table of any method.
    make
        Returns a new model that holds a table.
    train
        Trains a model. It adds ``table.penalty()`` to the loss, calls ``table.step_end()`` after every step of an
        optimizer made with ``table.parameter_groups(lr)``, and ``table.search(loss)`` with validation losses.
    evaluate
        Quality of a model on validation data, larger is better.

    Raises
    ------
    ParameterError
        The model does not hold the table.

    """
    stages, model = 0, None
    while True:
        if model is None:
            model = make(table)
            if not any(module is table for module in model.modules()):
                raise ParameterError(f"make returned a {type(model).__name__} that does not hold the table")
        train(model, table)
        stages += 1
        if table.is_final:
            return Fitted(model, table, stages)
        table, model, is_done = _next(table, model, evaluate)
        if is_done:
            return Fitted(model, table, stages)


def _next(table: Table, model: Any, evaluate: Callable[[Any], float] | None) -> tuple[Table, Any, bool]:
    """Return the table of the next stage, the model that goes on with it or None, and whether it is ready."""

    def quality() -> float:
        assert evaluate is not None
        was_training = model.training
        model.eval()
        found = evaluate(model)
        model.train(was_training)
        return found

    following = table.finish(None if evaluate is None else quality)
    if table.next_model == "fresh":
        return following, None, False
    replace(model, table, following)
    return following, model, table.next_model == "done"

"""Loss, dev metric and use of codes against steps. matplotlib (extra "plot") is imported only here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from annvq.errors import MissingExtraError


def training(history: Sequence[dict[str, float]], path: Path, title: str) -> None:
    """Draw one stage's measurements, side by side.

    Parameters
    ----------
    history
        Entries as `annvq.learn.training.trainer` makes them.
    path
        PNG to write.
    title
        What was trained, as text.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.

    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    metric = next(name for name in history[0] if "@" in name)
    figure = Figure(figsize=(13, 3.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)  # needs no display and no global state
    panels = (
        ("loss", ("loss",), "mean loss since the last measurement"),
        (metric, (metric,), f"dev {metric}"),
        ("entropy", ("entropy_bits", "least_entropy_bits"), "entropy of codes, bits"),
    )
    for axis, (_, names, label) in zip(figure.subplots(1, 3), panels, strict=True):
        for name in names:
            points = [(entry["step"], entry[name]) for entry in history if name in entry]
            axis.plot(*zip(*points, strict=True) if points else ((), ()), "o-", markersize=3, label=name)
        axis.set_xlabel("step")
        axis.set_title(label, loc="left", fontsize=10)
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    best = max(history, key=lambda entry: entry[metric])
    figure.axes[1].axvline(best["step"], color="0.5", linestyle="--", linewidth=1, label="kept")
    figure.axes[1].legend(frameon=False, fontsize=8)
    figure.axes[2].legend(["mean of codebooks", "least of a codebook"], frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path)

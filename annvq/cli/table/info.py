"""``annvq table info``: figures about an embedding table."""

from __future__ import annotations

from rich.table import Table

from annvq import tables
from annvq.bench.console import megabytes
from annvq.cli.options import JsonFile, examples
from annvq.cli.output import write_report
from annvq.cli.screen import one_line, screen
from annvq.cli.table.options import TablePath, figures

EXAMPLES = examples("table info table.safetensors", "table info table.safetensors --json - | jq .bytes")


def command(table: TablePath, json: JsonFile = None) -> None:
    """Print figures about TABLE: its method, rows, dimension and size."""
    opened = tables.open(table)
    arrays = {name: array.nbytes for name, array in opened.form.arrays().items()}
    found = {**figures(opened), "arrays": arrays}
    if json is not None:
        write_report(found, json)
        return
    shown = Table(show_header=False)
    shown.add_row("method", one_line(opened.method))
    shown.add_row("rows", f"{opened.num_embeddings:,}")
    shown.add_row("dimension", f"{opened.embedding_dim:,}")
    shown.add_row("size", megabytes(opened.nbytes))
    shown.add_row("of which", ", ".join(f"{name} {megabytes(size)}" for name, size in arrays.items()))
    shown.add_row("compression", f"{found['compression']:.1f}x smaller than float32")
    shown.add_row("row of zeros", "none" if opened.padding_idx is None else f"{opened.padding_idx:,}")
    screen().print(shown)

"""``annvq compact``: one segment instead of many, without the rows that were removed."""

from __future__ import annotations

from annvq.bench.console import megabytes
from annvq.cli.opening import open_either
from annvq.cli.options import IndexPath, JsonFile, examples
from annvq.cli.output import write_report
from annvq.cli.screen import say, screen

EXAMPLES = examples("compact my-index")


def command(index: IndexPath, json: JsonFile = None) -> None:
    """Merge the segments of INDEX into one, and drop the rows that were removed; ids and results stay the same."""
    with open_either(index, "rw") as opened:
        before = opened.stats()
        opened.compact()
        stats = opened.stats()
    if json is not None:
        write_report(stats, json)
    sizes = " to ".join(megabytes(sum(one["bytes"].values())) for one in (before, stats))
    say(screen(json), f"{index}: {before['segments']} segments to {stats['segments']}, {sizes}")

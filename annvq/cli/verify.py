"""``annvq verify``: every byte of an index compared with its checksums."""

from __future__ import annotations

from annvq.cli.opening import open_either
from annvq.cli.options import IndexPath, JsonFile, examples
from annvq.cli.output import write_report
from annvq.cli.screen import say, screen
from annvq.multivector import MultiVectorIndex

EXAMPLES = examples("verify my-index")


def command(index: IndexPath, json: JsonFile = None) -> None:
    """Read every byte of INDEX, and fail if one is not what was written."""
    with open_either(index) as opened:
        opened.verify()
        count = len(opened)
        what = "documents" if isinstance(opened, MultiVectorIndex) else "vectors"
    if json is not None:
        write_report({"path": str(index), "n": count, "intact": True}, json)
    say(screen(json), f"{index}: intact, {count:,} {what}")

"""The result of a benchmark as JSON, tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from annvq.bench.report import check_place, report_of, write_json
from annvq.cli.options import STDOUT
from annvq.cli.output import write_report
from annvq.cli.screen import say, screen
from annvq.errors import MissingExtraError

DEFAULT_OUT = Path("bench-out")


def check_places(*paths: Path | None) -> None:
    """Raise OSError before minutes are spent on a result that could not be written."""
    for path in paths:
        if path is not None and path != STDOUT:
            check_place(path)


class Result:
    """Keeps what is measured as JSON, and prints on stdout, or on stderr if the JSON goes to stdout."""

    def __init__(self, command: str, json: Path | None) -> None:
        self._command, self._json = command, json
        self.console = screen(json)

    def keep(self, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the result so far to the file, if there is one, for a run can take hours and be interrupted."""
        if self._json not in (None, STDOUT):
            write_json(self._json, self._command, config, rows)

    def finish(self, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the whole result."""
        self.keep(config, rows)
        if self._json == STDOUT:
            write_report(report_of(self._command, config, rows), STDOUT)

    def draw(self, path: Path, draw: Callable[[Path], None]) -> None:
        """Draw a picture if matplotlib is installed, and otherwise say what is missing."""

        def drawn() -> list[Path]:
            draw(path)
            return [path]

        self.draw_several(drawn)

    def draw_several(self, draw: Callable[[], list[Path]]) -> None:
        """Draw pictures and name them, or say what is missing."""
        try:
            paths = draw()
        except MissingExtraError as error:
            say(screen(STDOUT), f"annvq: no picture: {error}")
        else:
            for path in paths:
                say(self.console, f"picture: {path}")

"""The JSON object that every benchmark writes: command, config, machine, rows."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from annvq.bench import machine
from annvq.io.replacing import replacing


def write_json(path: Path, command: str, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one benchmark's result, whole or not at all.

    Parameters
    ----------
    path
        The file to create or replace; its folder is created if it is missing.
    command
        "bench ann", "bench beir".
    config
        What was asked for and how it was measured.
    rows
        One object per measurement.

    """
    text = json.dumps(report_of(command, config, rows), indent=1, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text + "\n")


def report_of(command: str, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one benchmark's result as the object that is written; parameters as for `write_json`."""
    return {"command": command, "config": config, "machine": machine.describe(), "rows": rows}


def check_place(path: Path) -> None:
    """Check, before anything is measured, that the result can be written (OSError); nothing is left behind."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None

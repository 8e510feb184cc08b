"""The JSON object that every benchmark writes: command, config, machine, rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from annvq.bench import machine


def write_json(path: Path, command: str, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one benchmark's result whole or not at all.

    Parameters
    ----------
    path
        File to make or replace; its folder is made when absent.
    command
        "bench ann", "bench beir".
    config
        What was asked for and how it was measured.
    rows
        One object a measurement.

    """
    result = {"command": command, "config": config, "machine": machine.describe(), "rows": rows}
    text = json.dumps(result, indent=1, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text + "\n")
    os.replace(partial, path)

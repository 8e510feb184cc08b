"""Random trials without an end: `make soak`, or ``python tests/soak --minutes 20 --seed 7``.

Each trial is a process of its own, so that a crash or a hang is seen as what it is, and follows from the seed, its
kind and its number alone: what is printed for a fault runs it again.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / name) for name in ("index", "storage", "io")]

import changes  # noqa: E402
import damage  # noqa: E402
import documents  # noqa: E402
import files  # noqa: E402
import hostile  # noqa: E402
import kills  # noqa: E402
import memory  # noqa: E402
import power  # noqa: E402
import readers  # noqa: E402
import rows  # noqa: E402

KINDS = {
    "changes": changes.trial,
    "documents": documents.trial,
    "kills": kills.trial,
    "power": power.trial,
    "readers": readers.trial,
    "damage": damage.trial,
    "files": files.trial,
    "memory": memory.trial,
    "hostile": hostile.trial,
    "rows": rows.trial,
}
MOST_SECONDS = 300  # of one trial; kernels may be compiled in it


class Trial:
    """One trial in a process of its own."""

    def __init__(self, seed: int, kind: str, number: int) -> None:
        self.kind, self.number, self.begin = kind, number, time.monotonic()
        self.folder = Path(tempfile.mkdtemp(prefix="annvq-soak-"))
        self.pid = os.fork()
        if self.pid == 0:
            self._run(seed)

    def _run(self, seed: int) -> None:
        status = 1
        os.setpgid(0, 0)
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            rng = np.random.default_rng([seed, list(KINDS).index(self.kind), self.number])
            (self.folder / "work").mkdir()
            counts = KINDS[self.kind](rng, self.folder / "work")
            (self.folder / "counts").write_text("\n".join(f"{name}\t{count}" for name, count in counts.items()))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def end(self) -> str | None:
        """Return None while it runs, then what went wrong, or nothing."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            if time.monotonic() - self.begin < MOST_SECONDS:
                return None
            self.kill()
            return f"no end after {MOST_SECONDS} s\n{self._log()}"
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return ""
        how = f"died of {signal.Signals(-code).name}" if code < 0 else "failed"
        return f"{how}\n{self._log()}"

    def kill(self) -> None:
        """End it and what it started."""
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def counts(self) -> Counter:
        """Return what a good trial did."""
        lines = (self.folder / "counts").read_text().splitlines()
        return Counter({name: int(count) for name, count in (line.split("\t") for line in lines)})

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-6000:]

    def clean(self) -> None:
        """Remove what it left."""
        shutil.rmtree(self.folder, ignore_errors=True)


def run(seed: int, kinds: list[str], numbers: Iterable[int], stop: float, jobs: int) -> dict[str, Counter]:
    """Begin trials until ``stop`` or until the numbers end; return counts by kind, faults among them."""
    done: dict[str, Counter] = {kind: Counter(trials=0, faults=0) for kind in kinds}
    planned = ((kind, number) for number in numbers for kind in kinds)
    running: list[Trial] = []
    try:
        while True:
            if time.monotonic() < stop and len(running) < jobs and (following := next(planned, None)) is not None:
                running.append(Trial(seed, *following))
                continue
            if not running:
                return done
            time.sleep(0.01)
            for trial in list(running):
                fault = trial.end()
                if fault is None:
                    continue
                running.remove(trial)
                done[trial.kind].update(trials=1, faults=int(bool(fault)))
                if fault:
                    again = f"python tests/soak --seed {seed} --only {trial.kind} --number {trial.number}"
                    typer.echo(f"\nFAULT in {trial.kind} {trial.number} ({again}): {fault}")
                else:
                    done[trial.kind].update(trial.counts())
                trial.clean()
    finally:
        for trial in running:
            trial.kill()
            trial.clean()


def soak(
    minutes: Annotated[float, typer.Option(help="How long to begin new trials.")] = 20,
    seed: Annotated[int | None, typer.Option(help="By default another one every time.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Kinds of trials: {', '.join(KINDS)}.")] = None,
    number: Annotated[int | None, typer.Option(help="Only the trial of this number.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = len(os.sched_getaffinity(0)),
) -> None:
    """Run random trials and stop at the end of the time; exit with 1 where one found a fault."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    kinds = list(only or KINDS)
    typer.echo(f"seed {seed}: {', '.join(kinds)}")
    numbers = itertools.count() if number is None else [number]
    done = run(seed, kinds, numbers, time.monotonic() + 60 * minutes, jobs)
    for kind, counts in done.items():
        typer.echo(f"{kind}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    faults = sum(counts["faults"] for counts in done.values())
    typer.echo(f"seed {seed}: {faults} faults")
    raise typer.Exit(1 if faults else 0)


if __name__ == "__main__":
    typer.run(soak)

"""The command line, and how it ends.

Exit codes: 0 done, 1 failed (one line on stderr), 2 usage, 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from annvq.errors import AnnvqError, ParameterError


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code.

    Parameters
    ----------
    arguments
        Without the program's name; by default those of the process.

    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:  # kernels look at the environment when they are imported
        from annvq.cli.app import app
        from annvq.cli.arguments import spelled
    except ParameterError as error:
        typer.echo(f"annvq: {_one_line(error)}", err=True)
        sys.exit(2)
    try:
        app(spelled(arguments), prog_name="annvq")
    except (AnnvqError, OSError, MemoryError) as error:
        typer.echo(f"annvq: {_one_line(error)}", err=True)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


if __name__ == "__main__":
    main()

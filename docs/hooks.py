"""What the site takes from elsewhere, so that nothing is told twice: recipes, changelog, options of commands."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]


def on_files(files, config):
    """Add the pages that are made of files outside docs/."""
    pages = {
        "reference/recipes.md": recipes(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": contributing(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Add the options of every command to their page; say where names are that annvq.tables imports when asked."""
    if page.file.src_uri == "reference/cli.md":
        return markdown + commands()
    if page.file.src_uri == "reference/api/tables.md":
        from annvq.tables import _ELSEWHERE as homes

        for name, home in homes.items():
            markdown = re.sub(rf"^::: annvq\.tables\.{name}$", f"::: annvq.tables.{home}.{name}", markdown, flags=re.M)
    return markdown


def contributing() -> str:
    """Return CONTRIBUTING.md, with links as they are from here."""
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "](")


def recipes() -> str:
    """Return indexes/README.md with the recipes themselves below it, and links to them."""
    folder = ROOT / "indexes"
    text = (folder / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\(([a-z0-9-]+)\.toml\)", r"](#\1)", text)
    parts = [text, "\n## The files\n", *map(_shown, sorted(folder.glob("*.toml")))]
    parts += ["\n## Recipes for documents of several vectors\n", *map(_shown, sorted(folder.glob("*/*.toml")))]
    return "\n".join(parts)


def _shown(path: Path) -> str:
    return f"\n### {path.stem}\n\n```toml\n{path.read_text(encoding='utf-8').strip()}\n```\n"


def commands() -> str:
    """Return a section for every command: its help, its arguments, its options."""
    import typer.main

    from annvq.cli.app import app

    return "\n".join(_sections(typer.main.get_command(app), "annvq"))


def _sections(command: Any, name: str) -> list[str]:
    if hasattr(command, "commands"):
        return [part for key, child in command.commands.items() for part in _sections(child, f"{name} {key}")]
    parameters = [one for one in command.params if one.name != "help"]
    shown = " ".join(_metavar(one) for one in parameters if one.param_type_name == "argument")
    lines = [f"\n## {name}\n", f"`{name} {shown}`\n".replace(" `", "`"), inspect.cleandoc(command.help or "") + "\n"]
    if parameters:
        lines += ["| | |", "|---|---|", *map(_row, parameters)]
    if command.epilog:
        examples = [line.strip() for line in command.epilog.splitlines() if line.strip().startswith("annvq")]
        lines += ["\n```console", *(f"$ {line}" for line in examples), "```"]
    return lines


def _row(parameter: Any) -> str:
    text = (getattr(parameter, "help", "") or "").replace("|", r"\|").replace("\n", " ")
    if parameter.param_type_name == "argument":
        return f"| `{_metavar(parameter)}` | {text} |"
    spelled = ", ".join(f"`{one}`" for one in [*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    if default not in (None, False, "", ()) and not callable(default) and "Sentinel" not in type(default).__name__:
        text += f" Default: `{default}`."
    return f"| {spelled} | {text} |"


def _metavar(parameter: Any) -> str:
    return parameter.metavar or (parameter.name or "").upper()

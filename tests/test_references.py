"""Names such as ``annvq.index.build`` in docstrings, comments and pages, and files that sources name, exist."""

import ast
import importlib
import io
import pkgutil
import re
import tokenize
from pathlib import Path

import pytest

from annvq.errors import MissingExtraError

pytest.importorskip("torch", reason="half of the public modules need torch")

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path
    for folder in ("annvq", "bench", "docs", "examples", "indexes", "tests")
    for kind in ("py", "md")
    for path in (ROOT / folder).rglob(f"*.{kind}")
) + [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
NAME = re.compile(r"(?<![\w./-])annvq(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"(?<![\w./~-])(?:annvq|bench|docs|examples|indexes|tests)/[\w./-]+\.\w+")


def prose(source):
    """Yield the docstrings and comments of a Python source."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def found_in(path, pattern):
    text = path.read_text(encoding="utf-8")
    texts = prose(text) if path.suffix == ".py" else [text]
    return {name for part in texts for name in pattern.findall(part)}


def leads_nowhere(name):
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return not needs_an_extra(name)
    return False


def needs_an_extra(name):
    """Return whether a name is in a module of `annvq.integrations` whose library is not installed."""
    try:
        importlib.import_module(".".join(name.split(".")[:3]))
    except MissingExtraError:
        return True
    except ImportError:
        pass
    return False


def test_names_are_found_and_tried():
    source = '"""See `annvq.index.build`."""\n\n\ndef f():\n    return "annvq.a"  # as annvq.hits.Hits. x/annvq.toml\n'
    assert [name for part in prose(source) for name in NAME.findall(part)] == ["annvq.index.build", "annvq.hits.Hits"]
    assert not leads_nowhere("annvq.index.codes.spill.SecondLists")
    assert leads_nowhere("annvq.index.spill")
    assert leads_nowhere("annvq.index.build.no_such_function")


def wrong_in(paths, pattern, is_wrong):
    found = {path.relative_to(ROOT).as_posix(): sorted(filter(is_wrong, found_in(path, pattern))) for path in paths}
    return {path: names for path, names in found.items() if names}


def test_names_lead_somewhere():
    assert wrong_in(FILES, NAME, leads_nowhere) == {}


def test_files_that_sources_name_exist():
    """Those that pages name are tried in tests/docs/test_pages.py."""
    sources = [path for path in FILES if path.suffix == ".py"]
    assert wrong_in(sources, FILE, lambda name: not (ROOT / name).exists()) == {}

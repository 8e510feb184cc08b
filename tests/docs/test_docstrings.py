"""Every example in a docstring runs and prints what it says."""

import ast
import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

import annvq

PACKAGE = Path(annvq.__file__).parent
NEEDS = {  # of modules
    "annvq.interop.faiss": ("faiss",),
    "annvq.evaluation.ranking": ("pytrec_eval",),
    "annvq.learn": ("torch",),
    "annvq.tables": ("torch", "safetensors"),
    "annvq.tokenizers": ("torch",),
}


def examples():
    """Yield module, name, text and first line of every docstring that holds examples."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE.parent).with_suffix("")
        module = ".".join(part for part in place.parts if part != "__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if doctest.DocTestParser().get_examples(text):
                    yield module, getattr(node, "name", "module"), text, getattr(node, "lineno", 1)


EXAMPLES = list(examples())


def test_there_are_many():
    assert len(EXAMPLES) > 25


@pytest.mark.parametrize(
    ("module", "name", "text", "line"), EXAMPLES, ids=[f"{module}.{name}" for module, name, _, _ in EXAMPLES]
)
def test_an_example_runs(module, name, text, line, tmp_path, monkeypatch):
    """Examples use ``np`` and ``annvq`` without importing them, and stand in an empty folder."""
    for prefix, packages in NEEDS.items():
        if f"{module}.".startswith(f"{prefix}."):
            for package in packages:
                pytest.importorskip(package)
    importlib.import_module(module)
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(text, {"np": np, "annvq": annvq}, name, module, line)
    said = []
    failed = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append).failed
    assert not failed, "".join(said)

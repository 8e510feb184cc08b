"""Every example in a docstring runs and prints what it says, and what the site describes has one."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import annvq

PACKAGE = Path(annvq.__file__).parent
NEEDS = {  # of modules
    "annvq.interop": ("faiss",),
    "annvq.evaluation.ranking": ("pytrec_eval",),
    "annvq.learn": ("torch",),
    "annvq.tables": ("torch", "safetensors"),
    "annvq.tokenizers": ("torch",),
}


ELSEWHERE = {  # a reason why these have no example of their own
    "others return them": {"Record", "Quantized", "Learned"},
    "the example of VectorQuantizer or DistillVQ is composed of such": {
        "EMA", "Gradient", "KMeansStart", "Learning", "Revival", "Texts", "Tokenizer", "Trainer",
    },
    "they take data, or minutes; a tutorial shows them": {
        "BeirDataset", "MultiVectorRecipe", "RepCONC", "fit", "recommend", "warmup",
    },
}  # fmt: skip


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
    assert len(EXAMPLES) > 80


def test_what_the_site_describes_has_an_example():
    pytest.importorskip("torch")
    without = set()
    for page in sorted((PACKAGE.parent / "docs/reference/api").glob("*.md")):
        for module, name in re.findall(r"^::: (\S+)\.(\w+)$", page.read_text("utf-8"), re.MULTILINE):
            if ">>> " not in (getattr(importlib.import_module(module), name).__doc__ or ""):
                without.add(name)
    assert without == set().union(*ELSEWHERE.values())


@pytest.mark.parametrize(
    ("module", "name", "text", "line"), EXAMPLES, ids=[f"{module}.{name}" for module, name, _, _ in EXAMPLES]
)
def test_an_example_runs(module, name, text, line, tmp_path, monkeypatch):
    """Examples use ``np`` and ``annvq`` without importing them, and stand in an empty folder."""
    for prefix, packages in NEEDS.items():
        if module == prefix or module.startswith(f"{prefix}."):
            for package in packages:
                pytest.importorskip(package)
    importlib.import_module(module)
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(text, {"np": np, "annvq": annvq}, name, module, line)
    said = []
    failed = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append).failed
    assert not failed, "".join(said)

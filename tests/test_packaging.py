"""What a wheel carries, and that a package unpacked from it finds its recipes."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*BUILD, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def names_in(wheel):
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def test_wheel_holds_the_package_with_its_data(wheel):
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "annvq").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "annvq/py.typed" in sources
    assert any(name.startswith("annvq/demo/data/") for name in sources)
    assert sources <= names_in(wheel)


def test_wheel_holds_every_recipe(wheel):
    recipes = {f"annvq/_recipes/{path.name}" for path in (ROOT / "indexes").glob("*.toml")}
    assert len(recipes) >= 9
    assert recipes <= names_in(wheel)


def test_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"annvq"}


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as opened:
        texts = {name.split("/", 1)[1]: name for name in opened.namelist() if ".dist-info/" in name}
        assert "Apache License" in opened.read(texts["licenses/LICENSE"]).decode()
        assert "annvq = annvq.cli.__main__:main" in opened.read(texts["entry_points.txt"]).decode()
        metadata = opened.read(texts["METADATA"]).decode()
    core = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    packages = {line.split()[1].split(">")[0].split(";")[0] for line in core}
    assert packages == {"numpy", "numba", "pyarrow", "typer", "rich", "tomli"}


def test_unpacked_wheel_finds_its_recipes(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path)
    code = (
        "import annvq; from annvq.index.recipe import load, names;"
        "print(annvq.__file__); print(*names()); print(load('balanced').name)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    where, found, loaded = ran.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path)
    assert set(found.split()) == {path.stem for path in (ROOT / "indexes").glob("*.toml")}
    assert loaded == "balanced"

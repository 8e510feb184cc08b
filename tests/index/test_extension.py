"""What rows have beside their vectors: found by its name, and not loaded by an index that has nothing of the kind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import annvq
from annvq.index.rows.extension import EXTENSIONS, ExtensionRows, RowExtension, extension_class
from annvq.multivector import MultiVectorIndex

OPENED = """
import sys, annvq
index = annvq.open(sys.argv[1], "rw")
print(*(name for name in sys.modules if name.startswith("annvq.multivector")))
index.verify()
index.remove([0])
index.compact()
"""


def opened(path):
    """Open an index in a process of its own, change it, and return what it had loaded of `annvq.multivector`."""
    command = [sys.executable, "-c", OPENED, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(annvq.__file__).parents[1])
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def members(protocol):
    return {name for name in vars(protocol) if not name.startswith("_")}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extensions_are_classes_of_their_names(name):
    found = extension_class(name)
    assert found.name == name
    assert members(RowExtension) | {"from_sections"} <= set(dir(found))
    assert all(section.startswith(f"{name}.") for section in found.followed)


def test_opening_imports_an_extension_by_its_name(tmp_path):
    documents = np.random.default_rng(0).normal(size=(40, 3, 8)).astype(np.float32)
    MultiVectorIndex.build(documents).save(tmp_path / "made")
    assert "annvq.multivector.tokens" in opened(tmp_path / "made")
    with MultiVectorIndex.open(tmp_path / "made", verify=True) as index:
        assert len(index) == 39
        assert index.reconstruct([1]).offsets.tolist() == [0, 3]


def test_an_index_of_vectors_loads_no_extension(tmp_path):
    annvq.build(np.eye(8, dtype=np.float32), "flat").save(tmp_path / "made")
    assert opened(tmp_path / "made") == []


def test_rows_of_an_extension_are_what_an_index_expects():
    documents = MultiVectorIndex.build(np.ones((5, 2, 4), np.float32))
    store = documents.rows.current.trained.extension
    part = store.unpack(documents.rows.current.snapshot.segments[0].arrays, np.array([3, 1]))
    assert members(ExtensionRows) <= set(dir(part))
    both = part.joined([part, part[np.array([0])]])
    assert store.pack(both)["tokens.offsets"].tolist() == [0, 2, 4, 6]

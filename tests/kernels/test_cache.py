"""Compiled kernels are kept where nobody else can have written: what is kept is unpickled."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from annvq.kernels import strings
from annvq.kernels.compile import cache as cache_module
from annvq.kernels.compile import ownership
from annvq.kernels.scan import scan4, scan8
from annvq.kernels.vectors import finite

pytestmark = pytest.mark.skipif(not ownership.HAS_OWNERS, reason="files have no owners that Python knows of")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")

SOMEBODY = 54321  # a user id that is neither root's nor, very likely, anybody's

# One kernel, from the kernels alone, which load faster. Prints whether it was found and where it is kept.
RUN = """
import sys, types
import numpy as np
sys.modules["annvq"] = annvq = types.ModuleType("annvq")
annvq.__path__ = [sys.argv[1]]
from annvq.kernels.compile import cache
from annvq.kernels.vectors.finite import first_non_finite
assert first_non_finite(np.array([[1, 2], [np.nan, 0]], np.float32)) == 1
print(first_non_finite.stats.cache_hits.total(), cache.where()[0])
"""


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


def run(cache):
    """Call the kernel in a new process; return what it prints and its messages."""
    package = str(Path(ownership.__file__).parents[2])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, package], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split(), done.stderr


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return a folder that holds the compiled kernel."""
    folder = tmp_path_factory.mktemp("kept")
    folder.chmod(0o700)
    assert run(folder)[0][0] == "0"
    return folder


@pytest.fixture
def cache(kept, tmp_path):
    """Return a copy, and of its index a planted one that makes `tmp_path / "made"`."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    (inner,) = kept.iterdir()
    (folder / inner.name).mkdir(mode=0o755)
    for file in inner.iterdir():
        (folder / inner.name / file.name).write_bytes(file.read_bytes())
    return folder


def plant(cache, made):
    (index,) = cache.rglob("*.nbi")
    version = pickle.loads(index.read_bytes())
    index.write_bytes(pickle.dumps(version) + pickle.dumps((Planted(made), {})))
    return index


def test_what_the_user_wrote_is_read(cache, tmp_path):
    plant(cache, tmp_path / "made")
    run(cache)
    assert (tmp_path / "made").exists()  # so that the other tests can fail


@pytest.mark.parametrize("which", ["the folder", "the folder above", "the index"])
def test_what_everybody_may_write_is_not_read(cache, tmp_path, which):
    index = plant(cache, tmp_path / "made")
    {"the folder": index.parent, "the folder above": cache, "the index": index}[which].chmod(0o777)
    (found, kept), messages = run(cache)
    assert found == "0"
    assert not (tmp_path / "made").exists()
    if which == "the index":  # written anew in a folder that is safe
        assert kept == str(index.parent)
        assert run(cache)[0][0] == "1"
    else:
        assert kept == "None"
        assert messages.count("other users may write to") == 1


@as_root
@pytest.mark.parametrize("which", ["the folder", "the folder above", "the index"])
def test_what_belongs_to_another_user_is_not_read(cache, tmp_path, which):
    index = plant(cache, tmp_path / "made")
    os.chown({"the folder": index.parent, "the folder above": cache, "the index": index}[which], SOMEBODY, SOMEBODY)
    (found, kept), messages = run(cache)
    assert found == "0"
    assert not (tmp_path / "made").exists()
    assert (kept == "None") == (which != "the index")
    assert messages.count("belongs to another user") == (which != "the index")


@as_root
def test_data_of_another_user_behind_an_own_index_are_not_read(cache, tmp_path):
    (data,) = cache.rglob("*.nbc")
    data.write_bytes(pickle.dumps(Planted(tmp_path / "made")))
    os.chown(data, SOMEBODY, SOMEBODY)
    assert run(cache)[0][0] == "0"
    assert not (tmp_path / "made").exists()
    assert run(cache)[0][0] == "1"


def test_kernels_of_all_folders_are_kept_together_under_names_of_their_own():
    kernels = [scan4.scan_lists, scan8.scan_lists, finite.first_non_finite, strings.find]
    caches = [kernel._cache for kernel in kernels]
    assert {one.cache_path for one in caches} == {cache_module.where()[0]}
    names = [one._cache_file._index_name for one in caches]
    assert [name.split("-")[0] for name in names] == [
        "scan.scan4.scan_lists", "scan.scan8.scan_lists", "vectors.finite.first_non_finite", "kernels.strings.find",
    ]  # fmt: skip


def test_a_source_in_a_folder_below_counts(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "one.py").write_text("a = 1")
    before = cache_module._digest_of(tmp_path)
    (tmp_path / "below" / "one.py").write_text("a = 2")
    assert cache_module._digest_of(tmp_path) != before


def test_a_folder_of_the_user_is_used(tmp_path):
    assert ownership.reason_against_folder(str(tmp_path)) is None


def test_a_folder_in_a_sticky_one_is_used(tmp_path):
    own = tmp_path / "sticky" / "own"
    own.mkdir(parents=True)
    own.parent.chmod(0o1777)
    assert ownership.reason_against_folder(str(own)) is None
    assert "other users may write" in ownership.reason_against_folder(str(own.parent))
    own.parent.chmod(0o777)
    assert "other users may write" in ownership.reason_against_folder(str(own))


def test_a_link_is_followed_step_by_step(tmp_path):
    own, everybodys = tmp_path / "own", tmp_path / "everybodys"
    own.mkdir()
    (everybodys / "own").mkdir(parents=True)
    everybodys.chmod(0o777)
    (tmp_path / "link").symlink_to("own")
    (tmp_path / "twice").symlink_to(tmp_path / "link")
    (everybodys / "link").symlink_to(own)  # which others may replace
    (own / "up").symlink_to("../everybodys/own")
    assert ownership.reason_against_folder(str(tmp_path / "link")) is None
    assert ownership.reason_against_folder(str(tmp_path / "twice")) is None
    assert "other users may write" in ownership.reason_against_folder(str(everybodys / "link"))
    assert "other users may write" in ownership.reason_against_folder(str(own / "up"))


@as_root
def test_a_link_of_another_user_in_a_sticky_folder_is_not_followed(tmp_path):
    own, link = tmp_path / "own", tmp_path / "sticky" / "link"
    own.mkdir()
    link.parent.mkdir()
    link.parent.chmod(0o1777)
    link.symlink_to(own)
    assert ownership.reason_against_folder(str(link)) is None
    os.lchown(link, SOMEBODY, SOMEBODY)
    assert "belongs to another user" in ownership.reason_against_folder(str(link))


@as_root
def test_a_group_may_write_only_where_it_is_roots(tmp_path):
    tmp_path.chmod(0o770)
    assert ownership.reason_against_folder(str(tmp_path)) is None
    os.chown(tmp_path, 0, SOMEBODY)
    tmp_path.chmod(0o770)
    assert "other users may write" in ownership.reason_against_folder(str(tmp_path))


def test_a_link_is_no_file_to_read(tmp_path):
    (tmp_path / "file").touch(0o600)
    (tmp_path / "link").symlink_to("file")
    assert ownership.reason_against_file(str(tmp_path / "file")) is None
    assert "no plain file" in ownership.reason_against_file(str(tmp_path / "link"))

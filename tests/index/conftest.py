import pytest
from small_indexes import built

from annvq.storage.filesystem import LocalFileSystem


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk():
    """Leave out syncing: no test here can tell, and disks are slow. Not for the session: tests/storage can tell."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("sync", "sync_folder"):
            patch.setattr(LocalFileSystem, name, lambda self, what: None)
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the folder of a saved index of a kind, which is not to be changed."""
    folder = tmp_path_factory.mktemp("saved")

    def path_of(kind):
        if not (folder / kind).exists():
            built(kind).save(folder / kind)
        return folder / kind

    return path_of

import pytest

from annvq.storage.filesystem import LocalFileSystem


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk():
    """Leave out syncing: no test here can tell, tests/storage looks after it, and disks are slow."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("sync", "sync_folder"):
            patch.setattr(LocalFileSystem, name, lambda self, what: None)
        yield

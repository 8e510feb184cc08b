"""File systems that fail, kill, write short or forget, and small indexes to try them on."""

import errno
import os
import shutil
import signal
import traceback
from contextlib import suppress
from functools import partial
from itertools import combinations

import numpy as np

from annvq.errors import CorruptIndexError, StorageError
from annvq.storage import LOCAL, Store

DESCRIPTORS = {"open", "create", "reopen", "lock"}  # operations that return a descriptor


class Around:
    """Passes operations to the local file system, through `around`; counts them in ``done``.

    Syncing is left out: no test here can tell, and disks are slow.
    """

    def __init__(self):
        self.done = 0

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)

        def operation(*args):
            self.done += 1
            call = (lambda: None) if name in ("sync", "sync_folder") else partial(getattr(LOCAL, name), *args)
            return self.around(self.done, name, args, call)

        return operation

    def around(self, number, name, args, call):
        return call()


FAST = Around()


class Recording(Around):
    """Notes every operation: name, arguments, result. Written bytes are copied."""

    def __init__(self):
        super().__init__()
        self.log = []

    def around(self, number, name, args, call):
        kept = tuple(bytes(arg) if isinstance(arg, memoryview) else arg for arg in args)
        try:
            result = call()
        except OSError as error:
            result = error
            raise
        finally:
            self.log.append((name, kept, result))
        return result


class Killing(Around):
    """Kills its process before, or after, operation ``at``."""

    def __init__(self, at, after):
        super().__init__()
        self.at, self.after = at, after

    def around(self, number, name, args, call):
        if number == self.at and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return call()
        finally:
            if number == self.at:
                os.kill(os.getpid(), signal.SIGKILL)


class Failing(Around):
    """Raises what ``error`` makes in place of operation ``at``, or after it took effect; all others work."""

    def __init__(self, at, error, after=False):
        super().__init__()
        self.at, self.error, self.after = at, error, after
        self.failed = None

    def around(self, number, name, args, call):
        if number != self.at:
            return call()
        self.failed = name
        if self.after or name == "close":  # a failing close has closed
            with suppress(OSError):
                result = call()
                if name in DESCRIPTORS:
                    os.close(result)
        raise self.error()


def os_error(number):
    """Return a function that makes an OSError."""
    return lambda: OSError(number, os.strerror(number))


def error_of(call, *args):
    """Return the StorageError or interrupt that a call ends in, without the frames it holds; else None."""
    try:
        call(*args)
    except (StorageError, KeyboardInterrupt) as error:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    return None


def in_child(function, *args):
    """Run a function in a forked process; return its status as os.waitpid does."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def arrays(seed):
    """Return sections of three dtypes; one is empty."""
    rng = np.random.default_rng(seed)
    return {
        "codes": rng.integers(0, 256, (7, 3), dtype=np.uint8),
        "empty": np.empty((0, 4), np.float32),
        "ids": rng.integers(0, 1 << 60, 7),
    }


def make(path, fs=FAST):
    """Commit version 1: containers of the seeds 1 and 2."""
    with Store.create(path, fs=fs) as store:
        names = {str(seed): store.stage("segment", arrays(seed)) for seed in (1, 2)}
        store.commit({"names": names}, names.values())


def change(store):
    """Commit the next version: drop the first container and add one."""
    names = store.config["names"]
    names.pop(min(names, key=int))
    seed = store.version + 2
    names[str(seed)] = store.stage("segment", arrays(seed))
    return store.commit({"names": names}, names.values())


def fill(store):
    """Commit the first version of a new index: one container of the seed 100."""
    name = store.stage("segment", arrays(100))
    return store.commit({"names": {"100": name}}, [name])


def contents(path):
    """Open, verify, and return version and seeds, after comparing all arrays; None if there is no index."""
    try:
        store = Store.open(path)
    except (CorruptIndexError, StorageError) as error:
        if "no manifest.json" in str(error) or getattr(error, "errno", None) == errno.ENOENT:
            return None
        raise
    with store:
        store.verify()
        names = store.config["names"]
        for seed, name in names.items():
            found = store.sections(name)
            assert list(found) == list(arrays(int(seed)))
            for section, array in arrays(int(seed)).items():
                np.testing.assert_array_equal(found[section], array, strict=True)
        assert sorted(names.values()) == sorted(store.names())
        return store.version, tuple(sorted(map(int, names)))


def check_next_commit(path):
    """The next commit works and leaves nothing but what it names."""
    if contents(path) is None:
        with Store.create(path, fs=FAST) as store:
            fill(store)
    else:
        with Store.open(path, "rw", fs=FAST) as store:
            change(store)
    assert contents(path) is not None
    assert set(os.listdir(path)) == {"manifest.json", "LOCK", *store.names()}


def changes_index(path, fs):
    """Scenario: the next version of an index."""
    with Store.open(path, "rw", fs=fs) as store:
        change(store)


def replaces_index(path, fs):
    """Scenario: another index over one that is there."""
    with Store.create(path, fs=fs) as store:
        fill(store)


SCENARIOS = {
    "next version": (changes_index, (1, (1, 2)), (2, (2, 3))),
    "over another": (replaces_index, (1, (1, 2)), (1, (100,))),
    "first": (replaces_index, None, (1, (100,))),
}


def prepared(base, path, before):
    """Return a fresh folder in the state that a scenario starts from."""
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    if before is not None:
        shutil.copytree(base, path)
    return path


def descriptors():
    return len(os.listdir("/proc/self/fd"))


class Inode:
    """A file's bytes as written and as synced."""

    def __init__(self, content=b""):
        self.content, self.synced = content, content


class PowerLoss:
    """What may be found after the power failed, by the log of a `Recording`.

    Synced bytes are there; other bytes may be in any state. Changes of a folder's entries since its last sync
    may have happened or not, each by itself. ``files``: bytes by path, None for a folder.
    """

    DAMAGES = ("deleted", "zeroed", "halved", "intact", "flipped", "empty")

    def __init__(self, files):
        self.durable = {path: "folder" if content is None else Inode(content) for path, content in files.items()}
        self.now = dict(self.durable)
        self.pending = []
        self.by_descriptor = {}

    def apply(self, name, args, result):
        if isinstance(result, OSError):
            return
        if name == "create":
            self.by_descriptor[result] = inode = Inode()
            self.now[args[0]] = inode
            self.pending.append((args[0].parent, {args[0]: inode}))
        elif name == "write" and args[0] in self.by_descriptor:
            self.by_descriptor[args[0]].content += args[1][:result]
        elif name == "sync":
            inode = self.by_descriptor[args[0]]
            inode.synced = inode.content
        elif name == "close":
            self.by_descriptor.pop(args[0], None)
        elif name == "replace":
            inode = self.now.pop(args[0])
            self.now[args[1]] = inode
            self.pending.append((args[0].parent, {args[0]: None, args[1]: inode}))
        elif name == "remove":
            self.now.pop(args[0], None)
            self.pending.append((args[0].parent, {args[0]: None}))
        elif name == "make_folder":
            self.now[args[0]] = "folder"
            self.pending.append((args[0].parent, {args[0]: "folder"}))
        elif name == "sync_folder":
            for change in [change for folder, change in self.pending if folder == args[0]]:
                _enter(self.durable, change)
            self.pending = [(folder, change) for folder, change in self.pending if folder != args[0]]

    def states(self):
        """Yield dictionaries of path to bytes, None for a folder."""
        changes = [change for _, change in self.pending]
        for count in range(len(changes) + 1):
            for chosen in combinations(changes, count):
                entries = dict(self.durable)
                for change in chosen:
                    _enter(entries, change)
                for damage in self.DAMAGES:
                    yield {path: state for path, inode in entries.items() for state in _after(inode, damage)}


def _enter(entries, change):
    for path, inode in change.items():
        if inode is None:
            entries.pop(path, None)
        else:
            entries[path] = inode


def _after(inode, damage):
    """Return the bytes of a file after the power failed, in a list; none if it is gone."""
    if inode == "folder":
        return [None]
    content = inode.content
    if inode.synced == content and content:
        return [content]
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :] if content else b""
    found = {"zeroed": bytes(len(content)), "halved": content[:middle], "intact": content, "flipped": flipped}
    return [] if damage == "deleted" else [found.get(damage, b"")]

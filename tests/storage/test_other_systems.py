"""A system without flock, forks, descriptors of folders and removal of what is in use, as Windows is, simulated."""

import subprocess
import sys

WINDOWS = '''
import errno, mmap, os, sys, types
import numpy, numba, fcntl as real, concurrent.futures, multiprocessing, subprocess, tempfile, uuid, socket

lacking = """O_CLOEXEC O_NONBLOCK O_NOFOLLOW O_DIRECTORY O_SYNC pread pwrite register_at_fork sched_getaffinity fork
geteuid getuid getegid getgid uname sysconf statvfs chown mkfifo posix_fadvise waitstatus_to_exitcode kill""".split()
for name in lacking:
    if hasattr(os, name):
        delattr(os, name)
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules[name] = None

def locking(descriptor, mode, count):
    assert (mode, count, os.lseek(descriptor, 0, os.SEEK_CUR)) == (2, 1, 1 << 30)
    try:
        real.flock(descriptor, real.LOCK_EX | real.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None

sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, LK_UNLCK=0, locking=locking)

def is_used(path):
    with open("/proc/self/maps") as lines:
        if any(line.rstrip().endswith(str(path)) for line in lines):
            return True
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{descriptor}") == str(path):
                return True
        except OSError:
            pass
    return False

def refusing(call, name):
    def refused(path, *rest, **options):
        if (os.path.isdir(path) if name == "open" else any(is_used(one) for one in (path, *rest[:1]))):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return call(path, *rest, **options)
    return refused

for name in ("open", "unlink", "remove", "rename", "replace"):
    setattr(os, name, refusing(getattr(os, name), name))

class Mapping(mmap.mmap):
    def __new__(cls, fileno, length, tagname=None, access=mmap.ACCESS_WRITE, offset=0):
        return super().__new__(cls, fileno, length, access=access, offset=offset)

mmap.mmap = Mapping
'''

USE = """
import annvq
from annvq import codebooks, io
from annvq.errors import LockedError
rows = numpy.random.default_rng(0).normal(size=(300, 8)).astype(numpy.float32)
path = os.path.join(sys.argv[1], "index")
annvq.build(rows, "IVF4,SQ8", threads=2).save(path)

def files():
    return sorted(name.partition("-")[0] for name in os.listdir(path))

with annvq.open(path) as reader, annvq.open(path, "rw") as writer:
    before = reader.search(rows[:5], 3)
    try:
        annvq.open(path, "rw")
        raise SystemExit("two writers")
    except LockedError as error:
        assert "another writer in this process" in str(error), error
    writer.add(rows[:50] + 1)
    writer.remove([3])
    writer.compact()
    writer.verify()
    assert files().count("segment") > 1, "what a reader has mapped cannot be removed yet"
    assert reader.search(rows[:5], 3).ids.tolist() == before.ids.tolist()
    assert not reader.is_current() and reader.refresh()
    assert len(reader) == len(writer) == 349
with annvq.open(path, "rw") as writer:
    writer.remove([4])
assert files() == ["LOCK", "live", "manifest.json", "segment", "trained"], files()
with annvq.build(iter([rows, rows]), "Flat", path=os.path.join(sys.argv[1], "deep", "streamed")) as streamed:
    assert len(streamed.search(rows).ids) == 300
streamed = annvq.open(os.path.join(sys.argv[1], "deep", "streamed"))
assert len(streamed) == 600
try:
    annvq.build(rows * numpy.nan, "Flat", path=os.path.join(sys.argv[1], "never"))
except ValueError:
    pass
io.write(os.path.join(sys.argv[1], "x.npy"), rows)
assert io.read(os.path.join(sys.argv[1], "x.npy")).shape == (300, 8)
codebooks.save(os.path.join(sys.argv[1], "codebook"), codebooks.ScalarCodebook.train(rows))
codebooks.open(os.path.join(sys.argv[1], "codebook"))
from annvq.bench import machine
assert machine.describe()["cores"] >= 1
import annvq.cli.__main__
print("all done")
"""


def test_all_works_without_what_windows_lacks(tmp_path):
    command = [sys.executable, "-c", WINDOWS + USE, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ran.stdout, ran.returncode) == ("all done\n", 0), ran.stderr


def test_the_lock_ends_with_its_process(tmp_path):
    """As with flock: what another process held is free when that was killed."""
    hold = 'index = annvq.open(sys.argv[1], "rw")\nprint("held", flush=True)\nsys.stdin.read()\n'
    make = "import annvq\nannvq.build(numpy.eye(4, dtype='float32'), 'Flat').save(sys.argv[1])\n"
    path = str(tmp_path / "index")
    subprocess.run([sys.executable, "-c", WINDOWS + make, path], check=True, timeout=300)
    command = [sys.executable, "-c", WINDOWS + "import annvq\n" + hold, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        refused = "import annvq\nannvq.open(sys.argv[1], 'rw')\n"
        ran = subprocess.run([sys.executable, "-c", WINDOWS + refused, path], capture_output=True, text=True)
        assert f"LockedError: {path}: process {holder.pid} has it open" in ran.stderr
        holder.kill()
    ran = subprocess.run([sys.executable, "-c", WINDOWS + refused, path], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")

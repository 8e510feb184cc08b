"""One thread is measured on one CPU, and what others take of the machine is told."""

import os
import subprocess
import sys
import time

import pytest

from annvq.bench import cpu
from annvq.bench.cpu import Use, Watch, one_cpu

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one CPU, or no way to choose one"
)


@needs_affinity
def test_one_thread_stays_on_one_cpu_until_it_is_measured():
    before = os.sched_getaffinity(0)
    with one_cpu(1):
        assert os.sched_getaffinity(0) == {max(before)}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ZeroDivisionError), one_cpu(1):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_several_threads_have_all_cpus():
    with one_cpu(2):
        assert len(os.sched_getaffinity(0)) > 1


def test_where_the_system_cannot_or_does_not_let_it_nothing_is_pinned(monkeypatch):
    def refused(process, cpus):
        raise PermissionError

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", refused, raising=False)
    with one_cpu(1):
        pass
    monkeypatch.delattr(os, "sched_getaffinity")
    with one_cpu(1):
        pass


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="the system does not say")
def test_what_other_processes_take_is_told_and_what_this_one_takes_is_not():
    watch = Watch()
    end = time.perf_counter() + 0.4
    while time.perf_counter() < end:
        pass
    alone = watch.use()
    code = "import time; end = time.perf_counter() + 0.6\nwhile time.perf_counter() < end: pass"
    watch = Watch()
    subprocess.run([sys.executable, "-c", code], check=True)
    beside = watch.use()
    assert None not in (alone.others, beside.others)
    assert beside.others > 0.3  # the machine may be busy with other things besides
    assert alone.load is not None
    assert 0 <= beside.steal <= 1


def test_a_system_that_does_not_say_leaves_it_open(monkeypatch):
    monkeypatch.setattr(cpu, "_ticks", lambda: None)
    monkeypatch.setattr(cpu, "_load", lambda: None)
    use = Watch().use()
    assert use == Use(None, None, None)
    assert not use.is_busy
    assert str(use) == ""


def test_steal_and_other_processes_make_a_machine_busy():
    assert Use(0.05, 0.0, 1.0).is_busy
    assert Use(0.0, 0.7, 1.0).is_busy
    assert not Use(0.0, 0.05, 3.0).is_busy  # the load may be this process's own threads
    assert str(Use(0.05, 0.72, 1.25)) == "other processes took 0.7 CPUs, steal 5%, load 1.2"

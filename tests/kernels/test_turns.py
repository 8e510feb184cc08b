"""Threads that search take turns, and none waits for long for another that does not pass its turn on."""

import threading
import time

import numpy as np
import pytest

from annvq.kernels import turns

WAIT = 0.02  # seconds: a thousand times as long as anybody waits, so that a busy machine does not matter


@pytest.fixture
def word():
    words = np.zeros(32, np.int64)
    return words[16:]


@pytest.fixture(autouse=True)
def compiled(word):
    turns.pass_on(0)
    turns.await_turn(0)


def test_a_turn_is_taken_and_passed_on(word):
    address = word.ctypes.data
    turns.await_turn(address)
    assert word[0] != 0
    turns.pass_on(address)
    assert word[0] == 0


def test_nobody_waits_for_a_turn_that_is_not_passed_on(word):
    address = word.ctypes.data
    turns.await_turn(address)
    first = int(word[0])
    start = time.perf_counter()
    for _ in range(10):
        turns.await_turn(address)
    assert time.perf_counter() - start < 10 * WAIT
    assert word[0] > first


def test_a_turn_that_was_never_taken_is_not_waited_for(word):
    turns.await_turn(0)
    turns.pass_on(0)
    assert not word.any()


def test_many_threads_get_their_turns(word):
    address, done = word.ctypes.data, []

    def take_turns():
        for _ in range(1000):
            turns.await_turn(address)
            turns.pass_on(address)
        done.append(True)

    workers = [threading.Thread(target=take_turns) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(done) == 8

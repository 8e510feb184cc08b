"""What is named in the CPU's place does the work as long as its context lasts, and only in that thread."""

import threading
from contextlib import nullcontext

import numpy as np

import annvq
from annvq.codebooks.accelerator import accelerated_by, in_place_of_cpu


class Counting:
    """Stands for a device: it says what it was asked for, and leaves the work to the CPU."""

    def __init__(self):
        self.asked = []

    def working(self):
        return nullcontext()

    def check(self, recipe):
        self.asked.append(f"check {recipe.name}")

    def encode(self, trained, vectors):
        self.asked.append("encode")
        return trained.encode(vectors, 1)

    def points(self, rows):
        self.asked.append("points")
        return Here(rows)


class Here:
    def __init__(self, rows):
        self.rows = rows

    def labels(self, sites):
        from annvq.kernels.clusters.propose import labels_of

        return labels_of(self.rows, sites, 1)

    def sums(self, order, starts):
        return np.add.reduceat(self.rows[order].astype(np.float64), starts[:-1], axis=0)


def test_a_build_asks_what_is_named():
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    device = Counting()
    with accelerated_by(device):
        index = annvq.build(vectors, "IVF4,Flat", metric="l2")
    assert device.asked == ["check IVF4,Flat", "points", "encode"]
    plain = annvq.build(vectors, "IVF4,Flat", metric="l2")
    assert device.asked.count("encode") == 1
    np.testing.assert_array_equal(index.search(vectors[:5], k=3).ids, plain.search(vectors[:5], k=3).ids)


def test_contexts_end_and_belong_to_a_thread():
    outer, inner, seen = Counting(), Counting(), []
    with accelerated_by(outer):
        with accelerated_by(None):
            assert in_place_of_cpu() is outer
        with accelerated_by(inner):
            assert in_place_of_cpu() is inner
        assert in_place_of_cpu() is outer
        other = threading.Thread(target=lambda: seen.append(in_place_of_cpu()))
        other.start()
        other.join()
    assert in_place_of_cpu() is None
    assert seen == [None]

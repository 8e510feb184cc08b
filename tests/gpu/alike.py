"""What every test of an index on a device compares: the hits there and those of the CPU, to the bit."""

import numpy as np


def same(found, wanted):
    """Fail if hits, or hits within a radius, differ in ids, in scores or in how they are shared among queries."""
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
        if other.dtype != object:
            assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())


def same_search(there, index, queries, k, **options):
    """Fail if a search there does not give the hits of the CPU."""
    same(there.search(queries, k, **options), index.search(queries, k, **options))

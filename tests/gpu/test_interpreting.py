"""What the interpreter is corrected for: fused multiplications round once."""

from fractions import Fraction

import numpy as np

from annvq.gpu.interpreting import fused


def nearest_float32(exact):
    """Return the float32 number nearest to a fraction, ties to even."""
    near = np.float32(float(exact))  # within one number of it
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda one: (abs(Fraction(float(one)) - exact), one.view(np.int32) & 1))


def test_fused_multiplications_round_once():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3000)).astype(np.float32)
    z = (-x * y * rng.choice([1, 1 + 1e-7, 0.5, 1e-9, 1e6, 2.0**30], 3000)).astype(np.float32)
    x[:10], y[:10], z[:10] = 1 + 2.0**-12, 1 + 2.0**-12, 2.0 ** -np.arange(20, 30)  # ties, or nearly
    wanted = [nearest_float32(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))) for a, b, c in zip(x, y, z)]
    np.testing.assert_array_equal(fused(x, y, z), np.array(wanted, np.float32))
    twice = (x * y + z).astype(np.float32)
    assert (twice != np.array(wanted, np.float32)).any()

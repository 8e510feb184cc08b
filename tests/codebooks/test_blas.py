"""Linear algebra with one thread."""

import numpy as np
import pytest

from annvq.codebooks import blas


def test_threads_are_restored():
    library = blas._openblas()
    if library is None:
        pytest.skip("NumPy uses another library than OpenBLAS")
    before = library.get()
    library.set(2)
    try:
        with blas.one_blas_thread():
            assert library.get() == 1
            with blas.one_blas_thread():
                assert library.get() == 1
            assert library.get() == 1
        assert library.get() == 2
        with pytest.raises(np.linalg.LinAlgError), blas.one_blas_thread():
            np.linalg.inv(np.zeros((2, 2)))
        assert library.get() == 2
    finally:
        library.set(before)


def test_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(blas, "_openblas", lambda: None)
    with blas.one_blas_thread():
        assert np.linalg.eigvalsh(np.eye(2)).tolist() == [1, 1]

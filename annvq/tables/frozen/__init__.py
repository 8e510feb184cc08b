"""Tables for inference: plain arrays, looked up with NumPy and Numba."""

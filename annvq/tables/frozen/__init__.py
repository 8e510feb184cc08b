"""Tables for inference: plain arrays, with look-ups in NumPy and Numba."""

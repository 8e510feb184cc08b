"""Arithmetic on float32 vectors: inner products, matrix products, norms, rotations."""

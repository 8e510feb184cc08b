"""Sets of vectors: their scores, their fixed-dimensional encodings, and fewer vectors for a set."""

"""Sets of vectors: their scores, their fixed-dimensional encodings, and their reduction to fewer vectors."""

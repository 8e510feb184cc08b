"""Compiled inner loops. Each package imports only from those named before it:

compile      how kernels are compiled, for which instruction set, and where the result is kept
threads      the pool of threads that runs them
registers    vector registers: arithmetic, table look-ups, tiles of a matrix product
vectors      float32 vectors: inner products, matrix products, norms, rotations
strings      sorted strings: finding, ranking, gathering
clusters     centroids: training, assignment, second lists
codes        codes of vectors, made and decoded
embeddings   rows of compressed embedding tables
scan         the search of a segment: lists, codes, pools, rescoring
documents    sets of vectors: scores, encodings, reduction
"""

"""All compiled inner loops, by subject. Each package imports only from those that are listed before it:

compile      how kernels are compiled, for which instruction set, and where the compiled code is kept
threads      the pool of threads that runs the kernels
turns        how threads that search take turns in Python
registers    vector registers: arithmetic, table look-ups, tiles of a matrix product
vectors      float32 vectors: inner products, matrix products, norms, rotations
strings      sorted strings: finding, ranking, gathering
clusters     centroids: training, assignment, second lists
codes        codes of vectors: encoding and decoding
embeddings   rows of compressed embedding tables
scan         the search of a segment: lists are chosen, codes are scanned into pools, candidates are rescored
graph        graphs of vectors: neighbours, rows with their codes, walks
documents    sets of vectors: scores, encodings, reduction
"""

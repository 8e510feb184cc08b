"""The same index on a GPU: kernels in Triton, memory in torch (extra ``gpu``).

`annvq.Index.to` and `annvq.open` take a device; `annvq.gpu.index` is what they return. Scores are computed in the order
of the CPU's kernels, so that hits and scores are the same to the bit.
"""

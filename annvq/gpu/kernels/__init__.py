"""Triton kernels, one file each; none of them is imported before a device is asked for.

Functions whose names begin with an underscore are parts of kernels. Sums of floats are made in the order of the CPU's
kernels (`annvq.kernels`): fused multiplications are written out as ``tl.math.fma``, and nothing else is fused.
"""

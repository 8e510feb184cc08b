"""Arrays that a kernel makes for itself.

These functions do what `np.empty` and `np.zeros` do in a kernel, but do not compile a function per shape and dtype,
each of which would take as long as a small kernel.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.np.arrayobj import _empty_nd_impl

from annvq.kernels.compile.jit import intrinsic


def _typed(shape: Any, dtype: Any) -> types.Array:
    """Return the type of an array of a NumPy dtype and of a shape, which is an integer or a tuple of integers."""
    ndim = shape.count if isinstance(shape, types.BaseTuple) else 1
    return types.Array(dtype.dtype if isinstance(dtype, types.DType) else dtype.instance_type, ndim, "C")


def _allocated(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    if isinstance(sig.args[0], types.BaseTuple):
        lengths = zip(cgutils.unpack_tuple(builder, args[0]), sig.args[0], strict=True)
    else:
        lengths = [(args[0], sig.args[0])]
    shape = [context.cast(builder, length, kind, types.intp) for length, kind in lengths]
    return _empty_nd_impl(context, builder, sig.return_type, shape)


@intrinsic
def empty(typingctx, shape, dtype):
    """Return an array of the given shape, (n,) for an integer n, with arbitrary content."""

    def codegen(context, builder, sig, args):
        return _allocated(context, builder, sig, args)._getvalue()

    return _typed(shape, dtype)(shape, dtype), codegen


@intrinsic
def zeros(typingctx, shape, dtype):
    """Return an array of zeros of the given shape, (n,) for an integer n."""

    def codegen(context, builder, sig, args):
        array = _allocated(context, builder, sig, args)
        size = builder.mul(array.itemsize, array.nitems)
        cgutils.memset(builder, array.data, size, 0)
        return array._getvalue()

    return _typed(shape, dtype)(shape, dtype), codegen

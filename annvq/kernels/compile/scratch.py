"""Arrays that a kernel makes for itself.

What `np.empty` and `np.zeros` do in a kernel, without a function of its own for every shape and dtype, each of which
takes as long to compile as a small kernel.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.np.arrayobj import _empty_nd_impl

from annvq.kernels.compile.jit import intrinsic


def _typed(shape: Any, dtype: Any) -> types.Array:
    """Return the type of an array of a shape, an integer or a tuple of some, and a NumPy dtype."""
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
    """Return an array of given shape, (n,) for an integer, with arbitrary content."""

    def codegen(context, builder, sig, args):
        return _allocated(context, builder, sig, args)._getvalue()

    return _typed(shape, dtype)(shape, dtype), codegen


@intrinsic
def zeros(typingctx, shape, dtype):
    """Return an array of given shape, (n,) for an integer, of zeros."""

    def codegen(context, builder, sig, args):
        array = _allocated(context, builder, sig, args)
        size = builder.mul(array.itemsize, array.nitems)
        cgutils.memset(builder, array.data, size, 0)
        return array._getvalue()

    return _typed(shape, dtype)(shape, dtype), codegen

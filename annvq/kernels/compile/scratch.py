"""Arrays that a kernel makes for itself.

`empty` and `zeros` do what `np.empty` and `np.zeros` do in a kernel, but do not compile a function per shape and dtype,
each of which would take as long as a small kernel. `local` and `local_zeros` put small arrays on the stack: a search
for one query makes some thirty arrays, and would spend a tenth of its time on allocating and freeing them. Such an
array must not be returned, and must not be made in a loop.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import _empty_nd_impl, make_array, populate_array

from annvq.kernels.compile.jit import intrinsic


def _typed(shape: Any, dtype: Any) -> types.Array:
    """Return the type of an array of a NumPy dtype and of a shape, which is an integer or a tuple of integers."""
    ndim = shape.count if isinstance(shape, types.BaseTuple) else 1
    return types.Array(dtype.dtype if isinstance(dtype, types.DType) else dtype.instance_type, ndim, "C")


def _shape(context: Any, builder: Any, sig: Any, args: Any) -> list:
    if isinstance(sig.args[0], types.BaseTuple):
        lengths = zip(cgutils.unpack_tuple(builder, args[0]), sig.args[0], strict=True)
    else:
        lengths = [(args[0], sig.args[0])]
    return [context.cast(builder, length, kind, types.intp) for length, kind in lengths]


def _allocated(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _empty_nd_impl(context, builder, sig.return_type, _shape(context, builder, sig, args))


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


_MOST_ON_STACK = 16_384  # bytes


def _on_stack(context: Any, builder: Any, sig: Any, args: Any, *, clear: bool) -> Any:
    kind, shape = sig.return_type, _shape(context, builder, sig, args)
    word = shape[0].type
    itemsize = ir.Constant(word, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [itemsize]
    for length in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    size = builder.mul(strides[0], shape[0])
    fits = builder.icmp_unsigned("<=", size, ir.Constant(word, _MOST_ON_STACK))
    byte = ir.IntType(8)
    memory = builder.alloca(byte, size=builder.select(fits, size, ir.Constant(word, 0)))
    memory.align = 64
    array = make_array(kind)(context, builder)
    data = cgutils.alloca_once_value(builder, builder.bitcast(memory, array.data.type))
    owner = cgutils.alloca_once_value(builder, ir.Constant(array.meminfo.type, None))
    with builder.if_then(builder.not_(fits), likely=False):
        made = _empty_nd_impl(context, builder, kind, shape)
        builder.store(made.data, data)
        builder.store(made.meminfo, owner)
    populate_array(
        array,
        data=builder.load(data),
        shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides),
        itemsize=itemsize,
        meminfo=builder.load(owner),
    )
    if clear:
        cgutils.memset(builder, array.data, size, 0)
    return array._getvalue()


@intrinsic
def local(typingctx, shape, dtype):
    """Return an array of the given shape, (n,) for an integer n, with arbitrary content, on the stack if it is small.

    It must not be returned, and must not be made in a loop.
    """

    def codegen(context, builder, sig, args):
        return _on_stack(context, builder, sig, args, clear=False)

    return _typed(shape, dtype)(shape, dtype), codegen


@intrinsic
def local_zeros(typingctx, shape, dtype):
    """Return what `local` returns, filled with zeros."""

    def codegen(context, builder, sig, args):
        return _on_stack(context, builder, sig, args, clear=True)

    return _typed(shape, dtype)(shape, dtype), codegen

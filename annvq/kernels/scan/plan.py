"""Arrays handed to a kernel by address: what a search reads, laid down once in one array of integers.

Numba looks at every argument of every call; some twenty read-only arrays cost more than a short search.
A plan is an int64 array with four numbers an array, its address and up to three lengths, and plain numbers
at its end. Whoever makes it keeps the arrays alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array, populate_array

from annvq.kernels.compile.jit import intrinsic

_FIELDS = 4


def plan_of(arrays: Sequence[np.ndarray], numbers: Sequence[int]) -> np.ndarray:
    """Return the plan of C-contiguous arrays of up to three axes, and some numbers after them, flat int64."""
    plan = np.zeros(_FIELDS * len(arrays) + len(numbers), np.int64)
    for i, array in enumerate(arrays):
        plan[_FIELDS * i : _FIELDS * i + 1 + array.ndim] = (array.ctypes.data, *array.shape)
    plan[_FIELDS * len(arrays) :] = numbers
    return plan


@intrinsic
def array_of(typingctx, plan, number, like):
    """Return array ``number`` of a plan, with the dtype and axes of ``like``, read-only."""
    view = like.copy(readonly=True)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        numbers = make_array(sig.args[0])(context, builder, value=args[0]).data
        word = ir.IntType(64)
        first = builder.mul(args[1], ir.Constant(word, _FIELDS))
        fields = [
            builder.load(builder.gep(numbers, [builder.add(first, ir.Constant(word, i))])) for i in range(1 + view.ndim)
        ]
        itemsize = ir.Constant(word, context.get_abi_sizeof(context.get_data_type(view.dtype)))
        shape, strides = fields[1:], [itemsize]
        for length in shape[:0:-1]:
            strides.insert(0, builder.mul(strides[0], length))
        array = make_array(view)(context, builder)
        populate_array(
            array,
            data=builder.inttoptr(fields[0], array.data.type),
            shape=cgutils.pack_array(builder, shape),
            strides=cgutils.pack_array(builder, strides),
            itemsize=itemsize,
            meminfo=None,
        )
        return array._getvalue()

    return view(plan, types.intp, like), codegen

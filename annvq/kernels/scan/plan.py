"""Plans: trees of named tuples that are passed to a kernel by address, as one array of integers.

A plan holds everything that a search reads. Numba inspects every array in every call from Python, and for some twenty
read-only arrays this takes longer than a short search. A plan therefore holds the leaves of the tree in their order:
address and lengths of an array, and numbers as they are. Writer and reader take this order from the tuples themselves.
Whoever makes a plan keeps the arrays alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array, populate_array

from annvq.kernels.compile.jit import intrinsic

GIVEN: Any = None


def _leaves(tree: Any) -> Iterator[Any]:
    for value in tree:
        if isinstance(value, tuple):
            yield from _leaves(value)
        else:
            yield value


def plan_of(tree: tuple) -> np.ndarray:
    """Return the plan, flat int64, of a tree of named tuples of C-contiguous arrays and whole numbers."""
    words: list[int] = []
    for leaf in _leaves(tree):
        words += [leaf.__array_interface__["data"][0], *leaf.shape] if isinstance(leaf, np.ndarray) else [int(leaf)]
    return np.array(words, np.int64)


def reader_of(like: tuple) -> Callable[..., Any]:
    """Return a function, for use in kernels, that restores the tree from its plan.

    Parameters
    ----------
    like
        A tree of the same tuples, with arrays of the same dtypes and numbers of axes, and numbers of the same types.
        `GIVEN` stands for an array whose dtype and number of axes are known only to the caller of the function: the
        function takes a plan, and a tuple of arrays that are like those, in their order.

    """
    kind = numba.typeof(like)

    @intrinsic
    def read(typingctx, plan, given):
        made = _resolved(kind, iter(given))

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            words = make_array(sig.args[0])(context, builder, value=args[0]).data
            return _Reading(context, builder, words).value_of(made)

        return made(plan, given), codegen

    return read


def _resolved(kind: types.Type, given: Iterator[types.Array]) -> Any:
    """Return a type in which the types of given arrays take the places of `GIVEN`; all arrays are read-only."""
    if isinstance(kind, types.BaseTuple):
        return types.BaseTuple.from_types([_resolved(member, given) for member in kind], kind.instance_class)
    if isinstance(kind, types.NoneType):
        kind = next(given)
    return kind.copy(readonly=True) if isinstance(kind, types.Array) else kind


class _Reading:
    """Emits the loads of the words of a plan, one after the other."""

    def __init__(self, context: Any, builder: Any, words: Any) -> None:
        self._context, self._builder, self._words = context, builder, words
        self._next = 0

    def _word(self) -> Any:
        place = ir.Constant(ir.IntType(64), self._next)
        self._next += 1
        return self._builder.load(self._builder.gep(self._words, [place]))

    def value_of(self, kind: types.Type) -> Any:
        """Return the next value, which is of type ``kind``; a tuple is made of the values of its members."""
        context, builder = self._context, self._builder
        if isinstance(kind, types.BaseTuple):
            return context.make_tuple(builder, kind, [self.value_of(member) for member in kind])
        if isinstance(kind, types.Array):
            return self._array(kind)
        return context.cast(builder, self._word(), types.int64, kind)

    def _array(self, kind: types.Array) -> Any:
        context, builder = self._context, self._builder
        address, *shape = (self._word() for _ in range(1 + kind.ndim))
        itemsize = ir.Constant(ir.IntType(64), context.get_abi_sizeof(context.get_data_type(kind.dtype)))
        strides = [itemsize]
        for length in shape[:0:-1]:
            strides.insert(0, builder.mul(strides[0], length))
        array = make_array(kind)(context, builder)
        populate_array(
            array,
            data=builder.inttoptr(address, array.data.type),
            shape=cgutils.pack_array(builder, shape),
            strides=cgutils.pack_array(builder, strides),
            itemsize=itemsize,
            meminfo=None,
        )
        return array._getvalue()

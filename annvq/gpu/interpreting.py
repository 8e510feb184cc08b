"""What Triton's interpreter gets wrong, corrected."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def correct_products() -> None:
    """Let the interpreter multiply bfloat16 numbers: Triton 3.9 multiplies the integers that have their bits."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder

    given = InterpreterBuilder.create_dot

    def create_dot(self: Any, a: Any, b: Any, *others: Any) -> Any:
        a, b = (self.cast_impl(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b))
        return given(self, a, b, *others)

    InterpreterBuilder.create_dot = create_dot

"""Copies on a device of what searches were given last, so that the next search does not make them anew."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")


class Latest(Generic[T]):
    """What was made of an object that does not change, such as a snapshot; it is forgotten together with that object.

    It is the same for as long as the very same object is given. Memory of the device is therefore held for one filter
    that is prepared for many searches, and for none that is given with each.
    """

    def __init__(self) -> None:
        self._held: tuple[weakref.ref, T] | None = None

    def of(self, given: Any, make: Callable[[], T]) -> T:
        """Return what ``make`` made of ``given``, now or the last time."""
        held = self._held  # read once, because another thread may search with something else
        if held is not None and held[0]() is given:
            return held[1]
        made = make()
        own = weakref.ref(self)

        def forget(gone: weakref.ref) -> None:
            latest = own()
            if latest is not None and latest._held is not None and latest._held[0] is gone:
                latest._held = None

        self._held = weakref.ref(given, forget), made
        return made


def used_here(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor after telling torch that the current stream reads it too: its memory is not reused before."""
    if tensor.is_cuda:
        tensor.record_stream(torch.cuda.current_stream(tensor.device))
    return tensor

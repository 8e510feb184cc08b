"""Which embeddings of a model a table can stand in for, and why it cannot for others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from annvq.errors import ParameterError
from annvq.learn.runtime import torch

PLAIN = (torch.nn.Embedding, torch.nn.EmbeddingBag)
Filter = Callable[[str, Any], bool]
_HOOKS = (
    "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Embeddings of a model.

    Parameters
    ----------
    found
        Those that are replaced, by the first name that the model has for each.
    left
        Names of the others by the reason that they stay for; those that a filter leaves out are not among them.

    """

    found: dict[str, Any] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any, min_bytes: int, filter: Filter | None = None) -> Choice:
        """Look at all modules of a model; ParameterError if ``filter`` is not callable."""
        if filter is not None and not callable(filter):
            raise ParameterError(f"filter must be a function of name and module, not {filter!r}")
        choice = cls()
        for name, module in model.named_modules():
            if not isinstance(module, PLAIN) or (filter is not None and not filter(name, module)):
                continue
            reason = why_not(module)
            if not reason and module.weight.numel() * 4 < min_bytes:
                reason = f"smaller than {min_bytes} bytes"
            if reason:
                choice.left.setdefault(reason, []).append(name)
            else:
                choice.found[name] = module
        return choice

    def reasons(self) -> str:
        """Return all names that are left and why, as text."""
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in self.left.items())


def why_not(module: Any) -> str:
    """Return why a table cannot stand in for an nn.Embedding or nn.EmbeddingBag, or "".

    What a subclass, a hook or a parametrization adds to the look-up would be lost silently.
    """
    kind = type(module)
    if kind not in PLAIN or "forward" in vars(module):
        own = f"{kind.__name__} is a class of its own" if kind not in PLAIN else "its forward was replaced"
        return f"{own}, and what it adds to the look-up would be lost"
    hooked = [name.strip("_") for name in _HOOKS if getattr(module, name, None)]
    if hooked:
        return f"it has {', '.join(name.replace('_', ' ') for name in hooked)}, which would be lost"
    held = {*module._parameters, *module._buffers, *module._modules}
    if held != {"weight"}:
        return f"it holds {', '.join(sorted(held)) or 'nothing'}, expected its weight alone"
    if getattr(module.weight, "_backward_hooks", None):
        return "its weight has hooks, which would be lost"
    if module.max_norm is not None:
        return "max_norm has no meaning for a compressed table"
    return "scale_grad_by_freq has no meaning for a compressed table" if module.scale_grad_by_freq else ""


def check_compressible(module: Any) -> None:
    """Raise ParameterError if something is not an embedding that a table can stand in for."""
    if not isinstance(module, PLAIN):
        raise ParameterError(f"expected nn.Embedding or nn.EmbeddingBag, not {type(module).__name__}")
    reason = why_not(module)
    if reason:
        raise ParameterError(f"this {type(module).__name__} cannot be compressed: {reason}")


def others_with(weight: Any, model: Any, known: set[int]) -> list[str]:
    """Return the names of modules that hold a weight, besides those whose ``id`` is known."""
    holders = [(name, module) for name, module in model.named_modules() if id(module) not in known]
    return [name for name, module in holders if any(own is weight for own in module._parameters.values())]

"""How codebooks are learned: starts, updates, losses, revival of unused codes, gradients past a choice."""

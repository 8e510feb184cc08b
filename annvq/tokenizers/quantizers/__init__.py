"""The quantizers, one per file."""

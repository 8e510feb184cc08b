"""Versions of an index: written, merged, read and committed."""

"""Values and rows as codes of a few bits."""

"""Values and rows as codes of few bits."""

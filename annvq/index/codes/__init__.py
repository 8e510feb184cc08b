"""How rows are coded, laid out and scanned."""

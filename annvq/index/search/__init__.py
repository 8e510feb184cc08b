"""From queries to the best rows."""

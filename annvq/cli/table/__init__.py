"""``annvq table``: one file per command."""

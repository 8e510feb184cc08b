"""``annvq bench``: one file a benchmark."""

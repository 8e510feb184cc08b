"""``annvq bench``: one file per benchmark."""

"""The command ``annvq``: one file per command."""

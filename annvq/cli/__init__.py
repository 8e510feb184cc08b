"""The command ``annvq``: one file a command."""

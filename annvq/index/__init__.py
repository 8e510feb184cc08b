"""Build, search, change and keep an index."""

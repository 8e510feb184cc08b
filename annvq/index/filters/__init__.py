"""Which rows of an index a search may return: what users give as a filter, and how its rows are found."""

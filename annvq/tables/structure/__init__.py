"""Tables whose structure is searched, and those that a search ends with."""

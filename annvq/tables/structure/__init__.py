"""Tables whose structure is searched, and the tables that a search ends with."""

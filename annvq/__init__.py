"""annvq: vector retrieval index engine."""

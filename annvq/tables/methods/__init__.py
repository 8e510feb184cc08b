"""The methods, one per file; `annvq.tables.registry` names them."""

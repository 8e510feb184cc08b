"""The methods, one a file; `annvq.tables.registry` names them."""

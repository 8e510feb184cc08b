"""Values that a kernel holds in vector registers: arithmetic, table look-ups, tiles of a matrix product."""

"""Encoding on a device: for each kind of codes and of refine rows, what `annvq.index.codes` encodes, to the bit."""

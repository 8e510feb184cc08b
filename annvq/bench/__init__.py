"""Benchmarks: speed against recall beside other libraries, and retrieval quality on judged text."""

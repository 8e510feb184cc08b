"""Encoding of vectors as codes, decoding, and inner products of codes."""

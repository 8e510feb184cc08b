"""Rows of compressed embedding tables."""

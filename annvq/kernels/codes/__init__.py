"""Codes of vectors made and decoded."""

"""Centroids: their training, the nearest ones of a vector, and its second list."""

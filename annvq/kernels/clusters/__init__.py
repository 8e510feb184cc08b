"""Centroids: their training, the nearest centroids of a vector, and its second list."""

"""Kernels of graphs: which vertices are neighbours, the rows in which they are kept, and the walk of a search."""

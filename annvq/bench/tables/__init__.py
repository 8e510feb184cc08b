"""Embedding tables on recommenders: data, models, training, and the grid of methods, ratios and seeds."""

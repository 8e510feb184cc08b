"""Tables in the place of a model's embeddings."""

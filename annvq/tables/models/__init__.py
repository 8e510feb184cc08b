"""Tables in place of a model's embeddings."""

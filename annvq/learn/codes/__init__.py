"""Which code stands for a vector, and how equally codes are used."""

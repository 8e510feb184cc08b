"""Which code stands for a row: the nearest, one drawn at random, or a balanced assignment."""

"""Converting indexes and codebooks to and from those of other libraries."""

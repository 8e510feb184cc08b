"""What is done with codes: their bits, Arrow columns and files, and search."""

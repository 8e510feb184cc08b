"""What codes are used for: bits, Arrow columns and files, and search."""

"""Documents of several vectors on a device: their encodings, and Chamfer similarity."""

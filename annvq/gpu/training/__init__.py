"""Training on a device: k-means of lists and of sub-spaces, to the bit as on the CPU."""

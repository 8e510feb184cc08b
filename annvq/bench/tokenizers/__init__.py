"""A comparison of tokenizers: one small autoencoder and the same steps and seeds, each time with another quantizer."""

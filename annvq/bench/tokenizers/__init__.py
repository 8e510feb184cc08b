"""Tokenizers compared: one small autoencoder, the same steps and seeds, another quantizer in each."""

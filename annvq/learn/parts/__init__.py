"""What is trained, as torch modules: codebooks, centroids, rotation, encoder; and what training begins with."""

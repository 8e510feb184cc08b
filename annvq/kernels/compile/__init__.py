"""How kernels are compiled, for which instruction set, and where the result is kept."""

"""How kernels are compiled, for which instruction set, and where the compiled code is kept."""

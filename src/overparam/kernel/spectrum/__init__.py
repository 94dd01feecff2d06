"""Eigenvalues of kernels: whole or in part, what makes them small, and kernels of low rank."""

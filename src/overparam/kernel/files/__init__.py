"""Kernel matrices in files: a Zarr array whose chunks are tiles, and .npy as an export of it."""

"""Tangent kernels: computed by layerwise Gram products, weighted, factored."""

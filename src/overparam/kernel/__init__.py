"""What a network does to inner products: the tangent kernel, at a point and in the limit."""

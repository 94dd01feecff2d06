"""What a network does to inner products: the empirical tangent kernel and its memory."""

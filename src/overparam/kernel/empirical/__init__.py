"""The empirical tangent kernel: as a matrix, by tiles, as an operator, of a problem."""

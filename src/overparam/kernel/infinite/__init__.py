"""The tangent kernel and the Gaussian process that networks tend to as their widths grow."""

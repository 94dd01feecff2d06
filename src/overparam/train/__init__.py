"""Training: gradient descent with a monitor, Gauss-Newton, checkpoints."""

"""Training: gradient descent under a monitor, Gauss-Newton, and checkpoints."""

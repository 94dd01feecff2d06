"""Gradient descent on the model's first-order expansion: predictions, and Theorem P along it."""

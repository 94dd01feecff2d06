"""Bounds on the risk of a trained network: G1 to G4 of docs/generalisation.md, one a file."""

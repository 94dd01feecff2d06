"""Theorem 1 as a statement about real numbers: every rounding error on the way is bounded.

``certify(..., rigor="proved")`` takes its hypotheses from here. What is assumed of the arithmetic,
and why the bounds hold, is in docs/proved.md.
"""

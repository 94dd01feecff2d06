"""The theorems, one a file: hypotheses are arguments, over any type of number.

Theorems 1 and 1' are in ``convergence``, P in ``path``, C in ``trajectory``, R in ``weight_decay``,
S in ``stochastic``, 4 in ``distance``, 5 in ``implicit_bias``, 6 and 7 in ``lazy``, T2 in
``descent``, L3 in ``closest_interpolant``; docs/theorems.md has them all. Nothing here measures
anything or knows of networks. Proofs stand in docs/, with the same symbols.
"""

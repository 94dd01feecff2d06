"""The theorems, one a file: hypotheses are arguments, over any type of number.

Nothing here measures anything or knows of networks. Proofs stand in docs/, with the same symbols.
"""

"""Closed sets of words that an option takes.

They stand apart from what they choose, so that the command line can offer them without importing
that.
"""

from typing import Literal

Rigor = Literal["estimated", "computed", "proved"]
"""How much of a certificate is bounded: see ``Certificate``."""

RIGOURS = ("computed", "proved")
"""Of the main job."""

FINISHES = ("gauss-newton", "none")
OPTIMIZERS = ("gd", "adam", "adamw", "lion", "momentum", "rmsprop", "sgd", "adagrad", "nadam")

"""Closed sets of words that an option takes.

They stand apart from what they choose, so that the command line can offer them without importing
that.
"""

from typing import Literal

Rigor = Literal["estimated", "computed", "proved"]
"""How much of a certificate is bounded: see ``Certificate``."""

Kind = Literal["proved", "computed", "estimated", "assumed"]
"""What backs a number: see ``Constant``."""

Sampling = Literal["subsets", "replacement", "epochs"]
"""Each mini-batch a uniform subset of the points; or points drawn one by one from the measure; or
the points in a new order each epoch, of which each is in one batch."""

Mode = Literal["none", "norm", "center", "sphere", "lift"]
"""How features are prepared: see ``Preprocessing``."""

PREPARED: Mode = "lift"
"""The default: one norm for all points, and nothing of them forgotten."""

RIGOURS = ("computed", "proved")
"""Of the main job."""

DATA_SETS = ("digits", "diabetes", "breast_cancer", "wine", "iris")
"""That ship with scikit-learn."""

STUDIES = (
    *("convergence", "implicit", "lazy", "generalisation", "transfer"),
    *("eigenvalue", "moments", "applications", "eoc"),
)
"""In the order of the gallery."""

THEOREMS = ("1", "P", "C", "R", "S")
"""With which an initialisation can be certified."""

FINISHES = ("gauss-newton", "none")
OPTIMIZERS = ("gd", "adam", "adamw", "lion", "momentum", "rmsprop", "sgd", "adagrad", "nadam")

PARAMETRISATIONS = ("ntk", "standard", "mup")
"""NTK, standard, and maximal update (its form for gradient descent)."""

DECAYS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
"""Weight decays that are tried where one is to be chosen."""

AUTO = "auto"
"""In place of a weight decay: the job chooses it."""

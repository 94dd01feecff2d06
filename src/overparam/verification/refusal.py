"""How a check says no: an exception inside the package, a sentence outside it."""


class RefusedError(Exception):
    """The certificate cannot be accepted; the message is one sentence that says why."""


EMPTY = "the certificate claims nothing"
"""Why, where it is not certified and no number of it is one that the re-check could do without."""

UNCHECKED = "nothing can be checked again"
"""How the only reason begins where the re-check knows nothing of a theorem, a model or a search."""

"""How a check says no: an exception inside the package, a sentence outside it."""


class RefusedError(Exception):
    """The certificate cannot be accepted; the message is one sentence that says why."""


UNCHECKED = "nothing can be checked again"
"""How the only reason begins where the re-check knows nothing of a theorem, a model or a search."""

"""The two ways in which this package says no.

Bad input is an :class:`InputError` whose one-line message names the argument and the mend.
A proved statement that a run contradicts is a :class:`TheoremViolatedError`: it is never expected,
and means that an arithmetic error or a bug lies between the theorem and the run.
"""


class InputError(ValueError):
    """Input that cannot be used; the message is one line that names the cause and the mend."""


class TheoremViolatedError(RuntimeError):
    """A proved statement did not hold in a run; the message names the statement and the step."""

"""The numbers over which theorems are stated: one text, three meanings.

A theorem is written once, as a function of its hypotheses, with ``+``, ``-``, ``*``, ``/``,
comparisons and the functions of :mod:`overparam.numbers.generic`. What it means depends on the type
of number it is given:

- ``float`` and NumPy arrays of float64: the usual value, rounding ignored (``computed``);
- :class:`Interval`: two float64 bounds, each operation rounded outwards (``proved``);
- Arb balls, and NumPy object arrays of them: the independent re-check (``verify``).

A comparison of intervals or balls is true only if it is certain, so a condition that cannot be
decided counts as not met, and ``not a > b`` does not mean ``a <= b``.
"""

from overparam.numbers.generic import Number as Number
from overparam.numbers.generic import exactly as exactly
from overparam.numbers.generic import holds as holds
from overparam.numbers.generic import larger as larger
from overparam.numbers.generic import largest as largest
from overparam.numbers.generic import over as over
from overparam.numbers.generic import resolution as resolution
from overparam.numbers.generic import running_sum as running_sum
from overparam.numbers.generic import scaled as scaled
from overparam.numbers.generic import smaller as smaller
from overparam.numbers.generic import sqrt as sqrt
from overparam.numbers.generic import upper_end as upper_end
from overparam.numbers.interval import Interval as Interval
from overparam.numbers.safe_ends import LOWER as LOWER
from overparam.numbers.safe_ends import UPPER as UPPER
from overparam.numbers.safe_ends import safe as safe
from overparam.numbers.safe_ends import safe_lower as safe_lower
from overparam.numbers.safe_ends import safe_upper as safe_upper
from overparam.numbers.safe_ends import upper_of as upper_of

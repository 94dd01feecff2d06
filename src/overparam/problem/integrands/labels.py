"""Class labels where a loss needs a column for each class."""

import numpy as np
from jaxtyping import Float


def how_to_encode(y: Float[np.ndarray, "n k"], classes: int | None = None) -> str:
    """The end of a message about targets: how to encode them, if they look like class labels.

    Args:
        y: The targets; labels are one column of whole numbers.
        classes: Their number; if it is not known, two are taken for one column coded wrongly.

    Returns:
        Empty if they do not look like labels.
    """
    values = np.unique(y)
    count = len(values) if classes is None else classes
    whole = y.shape[1] == 1 and bool(np.all(values == np.floor(values)))
    if not whole or count < (3 if classes is None else 2) or len(values) > count:
        return ""
    numbered = bool(values[0] >= 0 and values[-1] < count)
    rows = "labels" if numbered else "np.unique(labels, return_inverse=True)[1]"
    return (
        f": class labels take one column a class, y = np.eye({count})[{rows}], or 2 * y - 1 of "
        "that for -1 and +1"
    )

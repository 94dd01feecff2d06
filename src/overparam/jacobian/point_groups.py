"""Groups of points that are alike, so that one may stand for all of its group."""

import numpy as np
from jaxtyping import Float, Int

GROUPS = 32
"""How many."""

Group = Int[np.ndarray, " members"]


def alike(features: Float[np.ndarray, "n features"]) -> list[Group]:
    """Groups of rows: the one whose rows differ most is halved until there are enough."""
    groups = [np.arange(len(features))]
    spans = [np.ptp(features, axis=0)]
    while len(groups) < GROUPS:
        worst = int(np.argmax([span.max() for span in spans]))
        group, along = groups.pop(worst), int(spans.pop(worst).argmax())
        values = features[group, along]
        low = values <= (values.min() + values.max()) / 2
        if low.all():  # nothing differs any more
            return [*groups, group]
        groups += [group[low], group[~low]]
        spans += [np.ptp(features[half], axis=0) for half in groups[-2:]]
    return groups

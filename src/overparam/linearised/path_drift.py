"""How far the kernel drifts along the linearised run: as many looks as that is worth."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace

from overparam.linearised.path import KernelLooks, LinearisedPath
from overparam.theorems.path import PathConvergence
from overparam.theorems.path_cells import Tube

SHARE = 0.5
"""Of the drift that looks at every step would leave, what may go unseen between two looks."""

MOST, FEWEST, WORK = 4000, 64, 4e12
"""Looks are as many as there is work for, in multiplications, between two limits."""


def look_closer(found: PathConvergence, looks: KernelLooks) -> PathConvergence:
    """Theorem 8 with looks between the points of the path, where they make the bound smaller.

    Args:
        found: Theorem P's claims about the run.
        looks: What looks at the kernel.
    """
    n, k = looks.problem.measure.n, looks.problem.outputs
    one = float((n * k) ** 2) * sum(looks.problem.mlp.widths)
    allowed = int(min(max(WORK / one, FEWEST), MOST))
    return replace(found, tubes=split(found, looks.path, looks.drift_at, allowed))


def split(
    found: PathConvergence, path: LinearisedPath, drift_at: Callable[[int], float], allowed: int
) -> tuple[Tube, ...]:
    """The tubes, those cut in two whose bounds are the largest, as long as that is worth it.

    Args:
        found: The tubes as they are.
        path: The linearised run.
        drift_at: |K(thetabar_t) - K_0|, t > 0.
        allowed: Looks.
    """
    heap = [(-tube.kernel_drift, tube.first, tube) for tube in found.tubes]
    heapq.heapify(heap)
    least = found.least_drift
    for _ in range(allowed):
        if not heap or -heap[0][0] <= (1 + SHARE) * least or heap[0][2].last - heap[0][1] == 1:
            break
        tube = heap[0][2]
        halves = list(_halves(tube, path, drift_at((tube.first + tube.last) // 2)))
        least = max(least, *(half.least for half in halves))
        heapq.heapreplace(heap, (-halves[0].kernel_drift, halves[0].first, halves[0]))
        heapq.heappush(heap, (-halves[1].kernel_drift, halves[1].first, halves[1]))
    return tuple(sorted((tube for _, _, tube in heap), key=lambda tube: tube.first))


def _halves(tube: Tube, path: LinearisedPath, drift: float) -> Iterator[Tube]:
    middle = (tube.first + tube.last) // 2
    for first, last, drifts in (
        (tube.first, middle, (tube.drifts[0], drift)),
        (middle, tube.last, (drift, tube.drifts[1])),
    ):
        movement = path.movement(first, last)
        yield replace(tube, first=first, last=last, movement=movement, drifts=drifts)

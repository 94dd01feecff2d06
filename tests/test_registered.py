"""What is added to one table is in all the others, or is said here not to be.

docs/design.md, "How to add", names these tables; a name that is missing in one of them would be
found out only by the user who asks for it.
"""

from pathlib import Path

import pytest

from overparam.apriori.wide_limits import GROWTH
from overparam.model.activation import ACTIVATIONS
from overparam.problem.integrands import INTEGRANDS
from overparam.verification.activations import ACTIVATIONS as IN_BALLS
from overparam.verification.float_pass import FLOAT_ACTIVATIONS, GRADIENTS
from overparam.verification.losses import LOSSES as LOSSES_IN_BALLS

DOCS = Path(__file__).parents[1] / "docs"
BENT = {name for name, act in ACTIVATIONS.items() if act.third_bound is not None}
"""Activations with three bounded derivatives, which Theorem C asks for."""

FOLLOWED_BY_NO_RUN = {"weighted_quadratic"}
"""Its weights are not in its name, which is all that the re-check of a run reads."""


def test_every_activation_is_stated_in_balls() -> None:
    assert set(IN_BALLS) == set(ACTIVATIONS)


def test_runs_with_every_activation_of_theorem_c_can_be_followed() -> None:
    assert set(FLOAT_ACTIVATIONS) == BENT


def test_every_loss_is_stated_in_balls() -> None:
    assert set(LOSSES_IN_BALLS) == {*INTEGRANDS, "cross_entropy"}  # this one has no PL constant


def test_runs_with_every_loss_can_be_followed() -> None:
    assert set(GRADIENTS) == {*INTEGRANDS, "cross_entropy"} - FOLLOWED_BY_NO_RUN


def test_the_growth_of_every_activation_but_two_is_known() -> None:
    """Of these two the width before a draw asks no more than their slopes say."""
    assert set(GROWTH) == set(ACTIVATIONS) - {"softplus", "leaky_relu"}


@pytest.mark.parametrize(
    ("page", "names"), [("activations.md", ACTIVATIONS), ("integrands.md", INTEGRANDS)]
)
def test_every_one_is_on_its_page(page: str, names: dict) -> None:
    text = (DOCS / page).read_text("utf-8")
    assert [name for name in names if f"`{name}" not in text] == []

"""The independent re-check of a certificate: read it, measure again in balls, derive, compare."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flint import arb, ctx

from overparam.certificate.certificate import LONGEST, Certificate
from overparam.errors import InputError
from overparam.files import read_start
from overparam.jacobian.modulus import modulus_and_lipschitz
from overparam.numbers.balls import balls
from overparam.numbers.upper import EXTENDED, strict
from overparam.problem.problem import Problem
from overparam.progress import Progress, silent
from overparam.verification.balls import bound_of
from overparam.verification.claim import Claim, read_claim
from overparam.verification.comparison import (
    compare_conclusions,
    compare_existence,
    compare_premises,
)
from overparam.verification.composed import compare_composed, not_composed
from overparam.verification.consistency import faults
from overparam.verification.decayed import compare_minimum, not_decayed
from overparam.verification.measured_kernel import measure
from overparam.verification.memory import require_memory
from overparam.verification.mini_batches import (
    compare_batch_run,
    compare_batches,
    not_known,
)
from overparam.verification.refusal import UNCHECKED, RefusedError
from overparam.verification.subject import Subject, subject_in, subject_of
from overparam.verification.trajectory import compare_run, not_followed
from overparam.verification.why import wrong_reason

LEAST_BITS, MOST_BITS = 64, 2**16
"""The precisions that make sense: below, nothing is decided; above, nothing is finished."""


@dataclass(frozen=True)
class Verification:
    """The outcome of a re-check.

    Attributes:
        ok: Whether the certificate holds.
        reasons: If not, what is wrong, a sentence each.
    """

    ok: bool
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.ok


def verify(
    certificate: Certificate | str | os.PathLike,
    problem_or_files: Problem | str | os.PathLike | None = None,
    params: Any = None,
    *,
    precision: int = 128,
    progress: Progress | None = None,
) -> Verification:
    """Check a certificate against its data and parameters, in ball arithmetic.

    Everything is computed again from the data and the parameters with code that shares only the
    theorems' statements with the code that made the certificate; its numbers are claims.

    Args:
        certificate: A certificate, or the path of its file.
        problem_or_files: The problem; or the folder with data.npz and params.npz, by default the
            one the certificate's file lies in.
        params: With a problem, the parameters the certificate is about.
        precision: Bits of the balls' midpoints, from 64 to 65,536.
        progress: Told what is being computed.

    Returns:
        The outcome; a certificate that does not hold is a result, not an exception.

    Raises:
        InputError: A file is missing, or the arguments do not fit together. Another thread changed
            FLINT's precision, which belongs to the whole process, and nothing was decided.

    References:
        docs/verification.md.
    """
    if isinstance(precision, bool) or not LEAST_BITS <= precision <= MOST_BITS:
        raise InputError(
            f"precision must be from {LEAST_BITS} to {MOST_BITS:,} bits, not {precision!r}"
        )
    text = None if isinstance(certificate, Certificate) else read_start(certificate, LONGEST)
    subject = _subject_source(certificate, problem_or_files, params)
    tell = progress or silent
    with balls(precision):
        try:
            claim = read_claim(_as_text(certificate) if text is None else text)
            about = problem_or_files if isinstance(problem_or_files, Problem) else None
            reasons = list(_check(claim, subject, about, params, tell))
        except RefusedError as error:
            reasons = [str(error)]
        except InputError:
            raise
        except (ArithmeticError, ValueError) as error:
            reasons = [f"the numbers are beyond what can be checked ({error})"]
        except MemoryError:
            reasons = ["the re-check takes more memory than there is"]
        if reasons and ctx.prec != precision:
            raise InputError(
                "another thread changed FLINT's precision (flint.ctx.prec) meanwhile, so nothing "
                "was decided: verify again, or in a process of its own"
            )
    return Verification(not reasons, tuple(reasons))


def _check(
    claim: Claim,
    subject_for: Callable[[Claim], Subject],
    problem: Problem | None,
    params: Any,
    tell: Progress,
) -> Iterator[str]:
    """All that is wrong; costly checks only if the cheap ones pass."""
    unknown = _beyond(claim, problem)
    if unknown is not None:
        yield f"{UNCHECKED}: {unknown}"
        return
    found = list(faults(claim))
    if found:
        yield from found
        return
    require_memory(claim.problem)
    if claim.problem["model_kind"] == "function":
        assert problem is not None
        wrong = wrong_reason(claim, problem.measure.x)
        yield from compare_composed(claim, problem, params, tell) if wrong is None else [wrong]
        return
    subject = subject_for(claim)
    found = list(_about_something_else(claim, subject))
    if found:
        yield from found
        return
    subject.validate()
    wrong = wrong_reason(claim, subject.x)
    if wrong is not None:
        yield wrong
        return
    measured = measure(subject, tell, points=claim.in_batches)
    if claim.decayed:
        yield from compare_minimum(claim, subject, measured, tell)
        return
    found = compare_premises(claim, measured)
    if found:
        yield from found
        return
    modulus: list[tuple[arb, arb | None]] = []
    with strict():
        for omega, lipschitz in modulus_and_lipschitz(measured.norms, claim.nodes, EXTENDED):
            tell("modulus", len(modulus), len(claim.nodes))
            modulus.append((bound_of(omega), None if lipschitz is None else bound_of(lipschitz)))
    if not (claim.by_run or claim.in_batches):
        yield from compare_conclusions(claim, measured, modulus)
        return
    found = compare_existence(claim, measured, modulus)
    if claim.follows_batches:
        yield from found or compare_batch_run(claim, subject, measured, tell)
        return
    if claim.in_batches:
        yield from found or compare_batches(claim, measured, modulus, subject.weights)
        return
    yield from found or compare_run(claim, subject, measured, tell)


def _beyond(claim: Claim, about: Problem | None) -> str | None:
    """What the re-check knows nothing about, if the claim is about that."""
    problem = claim.problem
    if problem["model_kind"] == "function":
        obstacle = not_composed(claim, about)
        if obstacle is not None:
            return obstacle
    elif "observe" in problem:
        return (
            f"the re-check knows networks observed by their values, not by {problem['observe']!r}"
        )
    if claim.content["rigor"] == "estimated":
        return "the modulus of J is an estimate, not a bound"
    if claim.content["theorem"] == "P":
        return (
            'the certificate rests on Theorem P (docs/path.md); certify(..., theorem="C") or '
            'theorem="1" makes one that can be, if the theorem holds'
        )
    if claim.decayed:
        return not_decayed(claim)
    if claim.in_batches:
        return not_known(claim)
    return not_followed(claim) if claim.by_run else None


def _about_something_else(claim: Claim, subject: Subject) -> Iterator[str]:
    names = {
        "data_sha256": "the data are not those that the certificate is about",
        "params_sha256": "the parameters are not those that the certificate is about",
        "center_sha256": "the centre is not the one that the certificate is about",
        "decay_sha256": "the weights do not decay to where the certificate says",
    }
    described = subject.description()
    for name in {**described, **claim.problem}:
        actual, stated = described.get(name), claim.problem.get(name)
        if type(stated) is int and type(actual) is float:
            stated = float(stated)
        if stated != actual:
            yield names.get(name, f"{name} is {actual!r}, the certificate says {stated!r}")


def _as_text(certificate: Any) -> str:
    try:
        return certificate.to_json()
    except (TypeError, ValueError) as error:
        raise RefusedError(f"the certificate cannot be written as JSON ({error})") from error


def _subject_source(
    certificate: Certificate | str | os.PathLike,
    source: Problem | str | os.PathLike | None,
    params: Any,
) -> Callable[[Claim], Subject]:
    if isinstance(source, Problem):
        if params is None:
            raise InputError("params are missing: give those that the certificate is about")
        source.validate(params)
        problem = source
        return lambda claim: subject_of(problem, params)
    if params is not None:
        raise InputError("params go with a problem; a folder holds its own")
    if source is None:
        if isinstance(certificate, Certificate):
            raise InputError("give the problem, or the folder with data.npz and params.npz")
        source = Path(certificate).parent
    folder = Path(source)
    for name in ("params.npz", "data.npz"):
        if not os.path.isfile(folder / name):
            raise InputError(f"{folder} has no {name}: give the folder of a run")
    return lambda claim: subject_in(folder, claim.content)

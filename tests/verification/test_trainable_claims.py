"""The re-check of certificates about a part of the parameters refuses those of another part."""

from dataclasses import replace

import msgspec

from frozen import partly
from overparam import Problem, certify, verify
from tiny import Tiny

TINY = Tiny((8,), "gelu", outputs=1, points=3)


def test_the_numbers_of_the_whole_network_do_not_pass_for_a_part_of_it():
    params = TINY.start(0)
    part = partly(TINY, "weights.0", centered_at=params)
    everything = replace(part.model, trainable="all")
    whole = Problem(everything, part.measure, centered_at=params)
    honest, other = (certify(problem, params, theorem="1") for problem in (part, whole))
    assert verify(honest, part, params)
    assert not verify(other, part, params)
    disguised = msgspec.structs.replace(other, problem=honest.problem)
    (reason, *_) = verify(disguised, part, params).reasons
    assert "eigenvalue" in reason
    renamed = msgspec.structs.replace(honest.problem, trainable=("weights.7",))
    assert not verify(msgspec.structs.replace(honest, problem=renamed), part, params)

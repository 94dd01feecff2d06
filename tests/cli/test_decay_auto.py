"""`overparam certify --weight-decay auto`: the job chooses, and says among what."""

import json

import pytest

from overparam import InputError
from overparam.cli.main import main
from overparam.pipeline.settings import JobSettings

FEW = ["certify", "iris", "--samples", "20", "--width", "24", "--depth", "1", "--steps", "2"]


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return stop.value.code


@pytest.mark.slow
def test_the_job_chooses_among_what_it_can_certify(capsys):
    code = run(*FEW, "--weight-decay", "auto", "--no-consequences", "--budget", "0", "--json")
    assert code == 0
    summary = json.loads(capsys.readouterr().out)
    tried = summary["weight_decays"]
    certified = [each for each in tried if each["certified"]]
    best = min(certified, key=lambda each: each["left_out_loss"])
    assert summary["weight_decay"] == best["weight_decay"]
    assert summary["certified"] is True
    assert summary["anchor"]["theorem"] == "R"
    losses = [each["left_out_loss"] for each in tried]
    assert losses[0] > min(losses)  # the largest one learns less


def test_a_weight_decay_is_a_number_or_auto(capsys):
    assert JobSettings(weight_decay="auto").decay == 0.3
    with pytest.raises(InputError, match="weight_decay must be a number"):
        JobSettings(weight_decay="much")
    assert run(*FEW, "--weight-decay", "much") == 2
    assert "'much' is no weight decay: write 1e-3, or auto" in capsys.readouterr().err
    for bad in ("-1", "inf", "nan"):
        assert run(*FEW, "--weight-decay", bad) == 2
        assert "--weight-decay must be a number" in capsys.readouterr().err

"""``overparam verify``: what it prints, and its exit status."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from small_run import small_run

from overparam import InputError
from overparam.cli.commands import cli, verify
from overparam.cli.main import main


@pytest.fixture
def folder(tmp_path):
    small_run().save(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(verify, [str(a) for a in arguments])


@pytest.mark.parametrize("name", ["", "certificate.json"])
@pytest.mark.sample(1)
def test_a_certificate_that_holds(folder, name):
    result = run(folder / name)
    assert result.exit_code == 0
    assert result.stdout.endswith("certificate.json: OK\n")


def test_every_certificate_of_the_folder_is_checked(folder):
    text = (folder / "certificate.json").read_text()
    (folder / "certificate-initialisation.json").write_text(text[:300])
    result = run(folder, "--json")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert content["ok"] is False
    assert [c["ok"] for c in content["certificates"]] == [True, False]
    assert "cut short" in content["certificates"][1]["reasons"][0]


def test_damage_is_explained(folder):
    arrays = dict(np.load(folder / "data.npz"))
    arrays["y"][0, 0] += 1
    np.savez(folder / "data.npz", **arrays)
    result = run(folder)
    assert result.exit_code == 1
    assert "NOT OK\n  the data are not those" in result.stdout


def test_exit_status_of_the_command(folder, capsys):
    def status(path):
        with pytest.raises(SystemExit) as stop:
            main(["verify", str(path)])
        return stop.value.code

    assert status(folder) == 0
    (folder / "params.npz").write_bytes(b"PK")
    assert status(folder) == 1
    (folder / "params.npz").unlink()
    assert status(folder) == 2
    assert "has no params.npz" in capsys.readouterr().err
    assert status(folder / "nowhere") == 2


def test_missing_input(folder):
    for path in (folder / "nowhere", folder / "data.npz" / "x"):
        assert isinstance(run(path).exception, InputError)
    (folder / "certificate.json").unlink()
    assert "certificate.json" in str(run(folder).exception)


def test_a_certificate_that_claims_nothing_is_told_apart_from_a_failure(tmp_path):
    table = tmp_path / "points.csv"
    table.write_text("a,b,y\n" + "\n".join(f"{i},{i * i % 7},{i % 5}.5" for i in range(12)))
    network = ("--width", "8", "--depth", "1", "--steps", "2", "--budget", "0", "--weight-decay")
    out = tmp_path / "job"
    command = ("certify", str(table), *network, "0.5", "--no-consequences", "--out", str(out))
    assert CliRunner().invoke(cli, command).exit_code == 0
    result = run(out)
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.endswith("certificate.json: OK")
    assert second.endswith("initialisation.json: claims nothing, so there is nothing to check")

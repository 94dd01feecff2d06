"""A job fills its own folder again, and no folder of somebody else."""

import json

import numpy as np
import pytest

from overparam.errors import InputError
from overparam.pipeline.output import FILES, require_own_folder

SUMMARY = {"certified": True, "seconds": {}, "preprocessing": {}}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_no_job_wrote_is_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds {name} that overparam did not write") as refusal:
        require_own_folder(tmp_path)
    assert "name another folder with --out" in str(refusal.value)
    assert (tmp_path / name).read_text() == "mine"


def test_the_command_line_refuses_before_any_work(tmp_path, capsys):
    from overparam.cli.main import main

    (tmp_path / "data.npz").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["certify", "iris", "--width", "8", "--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.count("\n") == 1
    assert "data.npz" in said
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]
    assert (tmp_path / "data.npz").read_text() == "mine"


def test_a_summary_of_something_else_makes_no_job(tmp_path):
    for text in ("{", "[]", json.dumps({"certified": True})):
        (tmp_path / "summary.json").write_text(text)
        with pytest.raises(InputError, match=r"summary\.json"):
            require_own_folder(tmp_path)


def test_a_jobs_folder_other_files_and_an_empty_one_are_taken(tmp_path):
    require_own_folder(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("mine")
    require_own_folder(tmp_path)
    (tmp_path / "data.npz").write_bytes(b"")
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    require_own_folder(tmp_path)


def test_a_checkpoint_is_a_jobs_and_another_archive_of_its_name_is_not(tmp_path):
    np.savez(tmp_path / "checkpoint.npz", job=np.array("a run"), step=3)
    require_own_folder(tmp_path)
    np.savez(tmp_path / "checkpoint.npz", weights=np.eye(2))
    with pytest.raises(InputError, match=r"checkpoint\.npz"):
        require_own_folder(tmp_path)

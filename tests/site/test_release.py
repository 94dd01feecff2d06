"""What says which version this is says the same, and the workflows can be read."""

import re
import tomllib
from pathlib import Path

import pytest

import overparam
from overparam.version import VERSION

ROOT = Path(__file__).parents[2]


def read(name):
    return (ROOT / name).read_text("utf-8")


def test_one_version():
    assert overparam.__version__ == VERSION
    assert re.search(r"^version: (.*)$", read("CITATION.cff"), re.MULTILINE)[1] == VERSION
    assert f"version = {{{VERSION}}}" in read("docs/cite.md")
    project = tomllib.loads(read("pyproject.toml"))
    pattern = project["tool"]["hatch"]["version"]["pattern"]
    file = project["tool"]["hatch"]["version"]["path"]
    assert re.search(pattern, read(file))["version"] == VERSION
    assert project["project"]["dynamic"] == ["version"]


def test_the_changelog_dates_this_version():
    heading = re.search(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)[1]
    assert heading == "Unreleased" or re.fullmatch(
        rf"{re.escape(VERSION)} - \d{{4}}-\d\d-\d\d", heading
    )
    assert f"\n## {VERSION} - " in read("CHANGELOG.md")


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.stem
)
def test_workflows_are_yaml_and_run_files_that_exist(path):
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    steps = [step for job in jobs.values() for step in job.get("steps", ())]
    assert steps or all("uses" in job for job in jobs.values())
    for step in steps:
        for name in re.findall(r"\.ci/[\w.]+", step.get("run", "")):
            assert (ROOT / name).exists(), name

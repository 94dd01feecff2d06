"""The documentation site: what is in it, without building it."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import overparam as op
from overparam.cli.commands import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
IN_THE_NAVIGATION = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8"))


def test_every_page_is_in_the_navigation_once():
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    pages += [f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.py")]
    assert sorted(IN_THE_NAVIGATION) == sorted(pages)


def test_every_public_name_is_in_the_reference():
    text = "\n".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))
    described = set(re.findall(r"^::: overparam\.[\w.]*?(\w+)$", text, re.MULTILINE))
    assert set(op.__all__) <= described
    for space in (op.steps, op.linearised, op.risk, op.sklearn, op.apriori, op.model):
        assert set(space.__all__) <= described


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_how_to_cite_is_what_the_command_prints():
    said = CliRunner().invoke(cli, ["cite"]).output.strip()
    assert said in (DOCS / "cite.md").read_text("utf-8")


def test_pictures_are_small_and_have_a_text():
    text = (DOCS / "concepts.md").read_text("utf-8")
    pictures = dict(re.findall(r"!\[([^]]+)\]\((pictures/\w+\.svg)\)", text))
    assert sorted(pictures.values()) == sorted(
        f"pictures/{path.name}" for path in (DOCS / "pictures").glob("*.svg")
    )
    for described, name in pictures.items():
        assert len(described) > 40
        assert (DOCS / name).stat().st_size < 40_000

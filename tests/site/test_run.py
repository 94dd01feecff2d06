"""What the site shows is run: notebooks, commands, and blocks that the doctests leave out."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "docs/start.md", *sorted((ROOT / "docs/how-to").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))

pytestmark = pytest.mark.slow


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return re.findall(r"^\$ overparam (.*)$", "\n".join(blocks), re.MULTILINE)


def plain_blocks(page: Path) -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return [block for block in blocks if ">>>" not in block]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_where_it_lies(path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    subprocess.run([sys.executable, path.name], cwd=path.parent, check=True, timeout=300)


@pytest.mark.parametrize(
    "page", [page for page in GUIDES if commands(page)], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_do_what_it_says(page, tmp_path):
    for command in commands(page):
        run = [sys.executable, "-m", "overparam", *shlex.split(command)]
        subprocess.run(run, cwd=tmp_path, check=True, timeout=600)


@pytest.mark.parametrize(
    "page", [page for page in GUIDES if plain_blocks(page)], ids=lambda page: page.stem
)
def test_blocks_without_prompts_run(page, tmp_path):
    for block in plain_blocks(page):
        for library in ("torch", "dask"):
            if f"import {library}" in block or f"from {library}" in block:
                pytest.importorskip(library)
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True, timeout=600)


def test_the_site_is_built_without_a_warning(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs")
    pytest.importorskip("math_core")
    monkeypatch.setenv("RUN_NOTEBOOKS", "0")  # the tests above run them
    build = [shutil.which("mkdocs") or "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, timeout=600)
    page = (tmp_path / "convergence.html").read_text("utf-8")
    assert "<math" in page
    assert "arithmatex" not in page

"""``overparam cite``: BibTeX of the software and of the theorem that it rests on."""

from overparam.cli.terminal import say, say_json
from overparam.version import VERSION

SOFTWARE = """\
@software{{overparam,
  title = {{overparam: certificates of convergence for overparameterized networks}},
  author = {{{{The overparam authors}}}},
  version = {{{version}}},
  year = {{2026}},
  license = {{Apache-2.0}},
}}"""

PAPER = """\
@article{terjek2022framework,
  title = {A Framework for Overparameterized Learning},
  author = {Terj{\\'e}k, D{\\'a}vid and Gonz{\\'a}lez-S{\\'a}nchez, Diego},
  journal = {arXiv preprint arXiv:2205.13507},
  year = {2022},
  eprint = {2205.13507},
  archivePrefix = {arXiv},
}"""


def cite(as_json: bool) -> None:
    """Print how to cite overparam and the theorem that it rests on."""
    software = SOFTWARE.format(version=VERSION)
    if as_json:
        return say_json({"software": software, "paper": PAPER})
    for line in f"{software}\n\n{PAPER}".split("\n"):
        say(line)

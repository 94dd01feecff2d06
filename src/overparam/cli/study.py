"""``overparam study``: the empirical evidence, one study or all of them."""

import warnings
from pathlib import Path
from typing import Any

from overparam.cli.certify import command_line
from overparam.cli.options import whole_numbers
from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import complain, print_table, say_json
from overparam.errors import InputError
from overparam.files import prepare_folder, write_whole
from overparam.memory import parse_size
from overparam.studies.output import findings, gallery, write_study
from overparam.studies.registry import NAMES, get_study
from overparam.studies.run import StudyResult, run_study
from overparam.studies.study import Settings
from overparam.studies.tensorboard import log_study, require_tensorboard

FOLDER = Path("evidence")


def study(
    name: str | None,
    listing: bool,
    everything: bool,
    out: Path | None,
    tensorboard: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run the study NAME: a sweep with a table, a figure and a verdict."""
    # loky replaces workers that have grown, and says so; what they were at is done by others.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    if listing:
        titles = {each: get_study(each).title for each in NAMES}
        return say_json(titles) if as_json else print_table(list(titles.items()))
    if (name is None) != everything:
        raise InputError(f"name one study, or give --all: {', '.join(NAMES)}")
    chosen = _settings(options)
    memory, minutes = options.pop("memory"), options.pop("time_limit")
    options["memory"] = None if memory is None else parse_size(memory)
    options["time_limit"] = None if minutes is None else 60 * minutes
    base = out if out is not None else FOLDER if everything else FOLDER / str(name)
    names = _able(chosen) if everything else [_fitting(str(name), chosen)]
    if tensorboard is not None:
        require_tensorboard()
    prepare_folder(base)
    done = []
    for each in names:
        folder = base / each if everything else base
        result = _run(each, chosen, folder, options)
        write_study(result, folder, command_line())
        if tensorboard is not None:
            log_study(result, tensorboard)
        done.append(result)
        if not as_json:
            _show(result, folder)
    if everything:
        index = [(r.study.name, r.study.title, r.verdict) for r in done]
        write_whole(base / "README.md", gallery(index).encode())
    if as_json:
        found = [findings(result, command_line()) for result in done]
        say_json(found if everything else found[0])
    return None


def _settings(options: dict[str, Any]) -> Settings:
    """Take out of the command's options what the study is about."""
    widths = options.pop("widths")
    names = ("data", "target", "samples", "seeds", "quick", "activation", "depth")
    return Settings(
        **{name: options.pop(name) for name in (*names, "separator", "header", "one_hot")},
        widths=None if widths is None else tuple(whole_numbers("--widths", widths)),
    )


def _fitting(name: str, settings: Settings) -> str:
    """The name, if the study is one that takes the settings: before a folder is made for it."""
    get_study(name).cells(settings)
    return name


def _able(settings: Settings) -> list[str]:
    """The studies that the settings fit; the others are named on stderr."""
    refused: dict[str, InputError] = {}
    for name in NAMES:
        try:
            get_study(name).cells(settings)
        except InputError as error:
            refused[name] = error
    if len(refused) == len(NAMES):
        raise refused[NAMES[0]]
    for name, reason in refused.items():
        complain(f"{name} is left out: {reason}")
    return [name for name in NAMES if name not in refused]


def _run(name: str, settings: Settings, folder: Path, options: dict[str, Any]) -> StudyResult:
    with ProgressBar() as progress:
        return run_study(name, settings, out=folder, progress=progress, **options)


def _show(result: StudyResult, folder: Path) -> None:
    table = [(result.study.name, result.study.title)]
    if result.damaged:
        table.append(("damaged", f"measured again: {', '.join(result.damaged)}"))
    table += [(f"  {each.verdict}", f"{each.claim} {each.words}") for each in result.findings]
    table.append(("  written", str(folder / "README.md")))
    print_table(table)

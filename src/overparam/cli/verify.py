"""``overparam verify``: the independent re-check of saved certificates."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import say, say_json
from overparam.errors import InputError
from overparam.verification import Verification
from overparam.verification import verify as recheck
from overparam.verification.refusal import EMPTY, UNCHECKED


def verify(path: Path, precision: int, as_json: bool) -> None:
    """Check certificates again from data and parameters, in ball arithmetic."""
    results = {}
    with ProgressBar() as progress:
        for file in _certificates(path):

            def tell(phase: str, done: int, total: int, name: str = file.name) -> None:
                progress(f"{name}: {phase}", done, total)

            results[file] = recheck(file, precision=precision, progress=tell)
    unknown = {
        file
        for file, result in results.items()
        if any(reason.startswith(UNCHECKED) for reason in result.reasons)
    }
    # Beside the certificate that was asked about, which has to hold.
    allowed = unknown - {path, path / "certificate.json"}
    failed = [file for file, result in results.items() if not result.ok and file not in allowed]
    if as_json:
        say_json({"ok": not failed, "certificates": _summary(results, unknown)})
    else:
        for file, result in results.items():
            for line in _lines(file, result, file in unknown):
                say(line)
    if failed:
        sys.exit(1)


def _lines(file: Path, result: Verification, unknown: bool) -> Iterator[str]:
    if unknown and EMPTY in result.reasons[0]:
        yield f"{file}: claims nothing, so there is nothing to check"
        return
    yield f"{file}: {'OK' if result.ok else 'NOT CHECKED' if unknown else 'NOT OK'}"
    for reason in result.reasons:
        yield f"  {reason}"


def _certificates(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}: give a certificate or the folder of a run")
    main = path / "certificate.json"
    found = set(path.glob("certificate*.json"))
    if main not in found:
        raise InputError(f"{path} has no certificate.json: give the folder of a run")
    return [main, *sorted(found - {main})]


def _summary(results: dict[Path, Verification], unknown: set[Path]) -> list[dict[str, Any]]:
    return [
        {
            "file": file.name,
            "ok": result.ok,
            "checked": file not in unknown,
            "reasons": list(result.reasons),
        }
        for file, result in results.items()
    ]

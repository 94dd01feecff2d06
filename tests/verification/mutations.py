"""Damage and forgery of a saved run that know its structure, and who can tell a false OK.

A mutation draws from a random generator, so that a seed is a case. What it does to the folder is
one of: numbers made stronger or odd, kinds, rigour and words exchanged, JSON tokens replaced, bytes
flipped, archives rebuilt with other members, types, orders, sizes and packings.
"""

import io
import json
import math
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator

NUMBERS = (
    *(0, -1, 1, 2, 1e-300, 1e-9, 0.5, 1e9, 1e300, -1e300, 10**30, 2**63, 1.7976931348623157e308),
    *(None, True, "1", [], {}, math.pi),
)
TOKENS = ("NaN", "Infinity", "-Infinity", "1e999", "-0.0", "1" * 5000, "[" * 2000, "{", "", "\\")
TEXTS = ("", "proved", "tanh", "squared", "huber:1e-300", "weighted_quadratic:1", "x" * 2000)
ODD_TEXTS = ("\ud800", "\x1b[31m", "\0", "squared:" + "9" * 400, "identity", "expectile:nan")
KINDS = ("proved", "computed", "estimated", "assumed")
LOWER = {
    *("min_eigenvalue", "pl_constant", "sigma_end", "margin", "distance_lower_bound"),
    "step_fraction",
}
"""Constants that are stronger where they are larger; of all others, smaller is stronger."""
FREE = {"step_size", "ball", "tube_radius", "handover"}
"""Chosen, not bounded."""


def mutate(rng: Rng, folder: Path) -> None:
    """Do one to three things to a folder that a run was saved in."""
    for _ in range(rng.integers(1, 4)):
        _choose(rng, MUTATIONS)(rng, folder)


def _choose(rng: Rng, options: Any) -> Any:
    options = list(options)
    return options[rng.integers(len(options))]


# --- the certificate ------------------------------------------------------------------------------


def _load(folder: Path) -> Any:
    try:
        return json.loads((folder / "certificate.json").read_bytes())
    except (ValueError, RecursionError):
        return None


def _store(folder: Path, content: Any) -> None:
    text = json.dumps(content)
    (folder / "certificate.json").write_bytes(text.encode("utf-8", "surrogatepass"))


def _paths(value: Any, path: tuple = ()) -> list[tuple]:
    found = []
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        found += [(*path, key), *_paths(item, (*path, key))]
    return found


def _parent(content: Any, path: tuple) -> Any:
    for key in path[:-1]:
        content = content[key]
    return content


def _edit(change: Callable[[Rng, Any, Any], None]) -> Callable[[Rng, Path], None]:
    """A mutation of the certificate's content at a random place."""

    def mutation(rng: Rng, folder: Path) -> None:
        if (folder / "certificate.json").stat().st_size > 2**21:
            return  # too long already, and it would grow
        content = _load(folder)
        paths = _paths(content)
        if paths:
            path = _choose(rng, paths)
            change(rng, _parent(content, path), path[-1])
            _store(folder, content)

    return mutation


def _other_value(rng: Rng, parent: Any, key: Any) -> None:
    value = parent[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and rng.integers(2):
        factor = _choose(rng, (1 - 1e-3, 1 + 1e-3, 0.5, 2, -1, 1e-6, 1e6, 1e200))
        parent[key] = value * factor
    elif isinstance(value, str) and rng.integers(2):
        parent[key] = _choose(rng, (*TEXTS, *ODD_TEXTS, value[::-1], value + " "))
    else:
        parent[key] = _choose(rng, (*NUMBERS, *TEXTS, *ODD_TEXTS))


def _drop(rng: Rng, parent: Any, key: Any) -> None:
    del parent[key]


def _rename(rng: Rng, parent: Any, key: Any) -> None:
    if isinstance(parent, dict):
        parent[_choose(rng, (*TEXTS, *ODD_TEXTS, "value", "rate", "model"))] = parent.pop(key)


def _repeat(rng: Rng, parent: Any, key: Any) -> None:
    if isinstance(parent, list):
        parent[key:key] = [parent[key]] * int(rng.choice([1, 100, 2000]))
    else:
        parent |= {f"{key}{i}": parent[key] for i in range(int(rng.choice([1, 100, 2000])))}


def _relabel(rng: Rng, folder: Path) -> None:
    """Other kinds, all or some of them, and often another rigour."""
    content = _load(folder)
    try:
        for name in ("loss_constants", "activation_bounds"):
            content["problem"][name] = _choose(rng, KINDS)
        if rng.integers(2):
            content["rigor"] = _choose(rng, KINDS[:3])
    except (TypeError, KeyError, AttributeError):
        return
    _store(folder, content)


def _strengthen(rng: Rng, folder: Path) -> None:
    """A stronger claim, with what follows from it by a formula."""
    content = _load(folder)
    try:
        c, step = content["numbers"], 10.0 ** rng.uniform(-12, 0)
        name = _choose(rng, c)
        c[name] *= 1 + step if name in LOWER else 1 - step
        if rng.integers(2):
            q = max(1 - c["step_size"] * c["objective_smoothness"] / 2, 1e-9)
            level = math.sqrt(2 * c["excess"] / c["pl_constant"]) / q
            residual = math.sqrt(2 * c["excess"])
            rate = 1 - 2 * c["step_size"] * q * c["pl_constant"] * c["sigma_end"] ** 2
            c |= {"step_fraction": q, "level": level, "residual": residual, "rate": rate}
    except (TypeError, KeyError, AttributeError, ValueError, ArithmeticError):
        return
    _store(folder, content)


def _sizes(rng: Rng, folder: Path) -> None:
    """The claim is about another, often absurd, size."""
    content = _load(folder)
    try:
        problem = content["problem"]
        name = _choose(rng, ("points", "in_dim", "outputs", "hidden_widths", "parameters"))
        size = _choose(rng, (0, 1, 3, 2.0, 10**4, 10**6, 10**9, 10**30, 1e300))
        problem[name] = [size] * int(rng.choice([1, 2, 900])) if name == "hidden_widths" else size
    except (TypeError, KeyError):
        return
    _store(folder, content)


def _tokens(rng: Rng, folder: Path) -> None:
    """A piece of the text replaced, so that it may be no JSON."""
    path = folder / "certificate.json"
    text = path.read_bytes()
    start = int(rng.integers(len(text) + 1))
    end = start + int(rng.choice([0, 1, 10, 100]))
    path.write_bytes(text[:start] + _choose(rng, TOKENS).encode() + text[end:])


# --- any file -------------------------------------------------------------------------------------


def _bytes(rng: Rng, folder: Path) -> None:
    path = folder / _choose(rng, ("certificate.json", "params.npz", "data.npz"))
    content = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 5)):
        if content:
            content[rng.integers(len(content))] = int(rng.integers(256))
    if rng.integers(4) == 0:
        del content[rng.integers(len(content) + 1) :]
    path.write_bytes(content)


# --- archives -------------------------------------------------------------------------------------


def _members(path: Path) -> dict[str, bytes] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # damaged before
        return None


def _rebuild(change: Callable[[Rng, dict[str, bytes]], None]) -> Callable[[Rng, Path], None]:
    def mutation(rng: Rng, folder: Path) -> None:
        path = folder / _choose(rng, ("params.npz", "data.npz"))
        members = _members(path)
        if not members:
            return
        change(rng, members)
        packing = _choose(rng, (*[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] * 4, zipfile.ZIP_LZMA))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(path, "w", packing) as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
                if rng.integers(8) == 0:
                    archive.writestr(name, content)

    return mutation


def _array(content: bytes) -> np.ndarray:
    """A member's array; a number if it holds none any more."""
    try:
        return np.array(np.load(io.BytesIO(content)))
    except Exception:  # damaged before
        return np.ones(1)


def _retype(rng: Rng, members: dict[str, bytes]) -> None:
    """The same numbers, or nearly, in another type, order or shape."""
    name = _choose(rng, members)
    array = _array(members[name])
    types = ("<f8", ">f8", "<f4", "<f2", "<f16", "<i8", ">i4", "<c16", "U8", "S4", "?", "M8[s]")
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = array.astype(_choose(rng, types))
        array = _choose(rng, (array, array, array.T, array[..., None], array[:1]))
        members[name] = _packed(np.array(array, order=_choose(rng, "CF")))
    except (ValueError, TypeError, IndexError, RuntimeError):  # such as dates in four letters
        return


def _packed(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def _renumber(rng: Rng, members: dict[str, bytes]) -> None:
    """Other numbers in an array."""
    name = _choose(rng, members)
    array = _array(members[name])
    number = _choose(rng, (0, -1, 1e-300, 1e300, np.nan, np.inf, 1 + 1e-12))
    try:
        with np.errstate(all="ignore"):
            array.flat[rng.integers(array.size)] = number
        members[name] = _packed(array)
    except (ValueError, TypeError, OverflowError):
        return


def _head(rng: Rng, members: dict[str, bytes]) -> None:
    """A header that promises something else than follows."""
    name = _choose(rng, members)
    header = {
        "descr": _choose(rng, ("<f8", "|O", "<f8,<f8", "<q", "<f2048", "|V9", 3)),
        "fortran_order": _choose(rng, (False, True, 0, "no")),
        "shape": _choose(rng, ((2, 2), (10**12,), (-1,), (), (2,), (2**40, 2**40), (0, 5), 2)),
    }
    text = repr(header).encode() + b" " * int(rng.choice([0, 50, 20_000])) + b"\n"
    length = len(text) if rng.integers(4) else int(rng.integers(65_536))
    version = _choose(rng, (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"))
    size = length.to_bytes(2 if version[0] == 1 else 4, "little")
    members[name] = b"\x93NUMPY" + version + size + text + bytes(int(rng.choice([0, 32, 4096])))


def _other_members(rng: Rng, members: dict[str, bytes]) -> None:
    """Added, emptied, removed, or exchanged members, some of them bombs."""
    name, other = _choose(rng, members), _choose(rng, members)
    action = int(rng.integers(6))
    if action == 0:
        members["README.txt"] = b"hello"
    elif action == 1:
        members[name] = bytes(int(rng.choice([0, 1, 50 * 2**20])))
    elif action == 2:
        del members[name]
    elif action == 3:
        members[name], members[other] = members[other], members[name]
    elif action == 4:
        members["../" + name] = members.pop(name)
    else:
        members |= {f"{i}.npy": b"" for i in range(int(rng.choice([10, 3000])))}


MUTATIONS = (
    *(_edit(_other_value), _edit(_other_value), _edit(_drop), _edit(_rename), _edit(_repeat)),
    *(_relabel, _relabel, _strengthen, _strengthen, _strengthen, _sizes, _tokens, _bytes),
    *(_rebuild(_retype), _rebuild(_renumber), _rebuild(_head), _rebuild(_other_members)),
)


# --- who can tell ---------------------------------------------------------------------------------


def false_in(folder: Path, honest: Path) -> str | None:
    """Why an OK for ``folder`` would be false, judged by the honest run it came from; None if true.

    Parameters, data and what the claim is about are unchanged, and no number is stronger than the
    honest one but by what the tolerance of its kind allows: 10^-5, and 10^-6 if it is proved (what
    float64 proves about this small run is that close to the truth).
    """
    content, before = _load(folder), _load(honest)
    for key, value in before["problem"].items():
        if content["problem"][key] != value:
            return f"the claim is about another problem: {key}"
    kinds = ("rigor", "theorem", "why", "modulus", "start", "format", "assumptions")
    for key in kinds:
        if content[key] != before[key] and (key, content[key]) not in WEAKER:
            return f"{key} is {content[key]}"
    tolerance = 1e-6 if content["rigor"] == "proved" else 1e-5
    for name, value in content["numbers"].items():
        honest_value = before["numbers"][name]
        if name in FREE or value == honest_value:
            continue
        stronger = value - honest_value if name in LOWER else honest_value - value
        if stronger > tolerance * abs(honest_value):
            return f"{name} is {value}, honestly {honest_value}"
    for name in ("params.npz", "data.npz"):
        if not _same_arrays(folder / name, honest / name):
            return f"{name} holds other numbers"
    return None


WEAKER = {("rigor", "computed"), ("start", "anchor")}


def _same_arrays(path: Path, honest: Path) -> bool:
    with np.load(honest) as before, zipfile.ZipFile(path) as archive:
        pairs = [(np.load(io.BytesIO(archive.read(f"{n}.npy"))), before[n]) for n in before]
    return all(np.array_equal(found.astype(float), array.astype(float)) for found, array in pairs)


def fresh_copy(honest: Path, folder: Path) -> Path:
    """A copy of the honest run to do things to."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(honest, folder)
    return folder

"""Reading .safetensors files: eight bytes, a JSON header, raw numbers.

The format is small enough to be read here: no dependency, bfloat16 included (NumPy has no such
dtype, but every bfloat16 is the upper half of a float32), and everything that a damaged file can
get wrong is one line to the user. Nothing in such a file is ever executed.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from overparam.errors import InputError

LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the format's reference implementation."""

DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"},
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file by name, in the file's order, which means nothing.

    Raises:
        InputError: The file cannot be read, is damaged, has a dtype other than the usual ones, or
            says that an array was left out because it is another one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    header, data = _header(content, path)
    _require_no_aliases(header, path)
    arrays, spans = {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, begin, end = _entry(entry, name, path)
        size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if not 0 <= begin <= end <= len(data) or end - begin != size:
            raise _damaged(path, f"{name!r} of shape {shape} does not fit its place")
        flat = np.frombuffer(data[begin:end], dtype=DTYPES[dtype])
        if dtype == "BF16":
            flat = (flat.astype("<u4") << 16).view("<f4")
        arrays[name] = flat.reshape(shape)
        spans.append((begin, end))
    _check_cover(sorted(spans), len(data), path)
    return arrays


def _header(content: bytes, path: Path) -> tuple[dict[str, Any], bytes]:
    if not content:
        raise InputError(f"{path} is empty: save the weights again")
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, LONGEST_HEADER):
        raise _damaged(path, "its header is cut short")
    try:
        header = json.loads(content[8 : 8 + length], object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no object")
    return header, content[8 + length :]


def _require_no_aliases(header: dict[str, Any], path: Path) -> None:
    """``safetensors.torch.save_model`` keeps one of shared arrays and notes the others' names."""
    metadata = header.get("__metadata__")
    for name, kept in metadata.items() if isinstance(metadata, dict) else ():
        if isinstance(kept, str) and kept in header and name not in header:
            raise InputError(
                f"{name!r} and {kept!r} in {path} are one array: a layer that is used twice (tied "
                "weights) is not supported"
            )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _entry(entry: Any, name: str, path: Path) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"{name!r} has no dtype, shape or place") from error
    numbers = (*shape, begin, end)
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise _damaged(path, f"{name!r} has a shape or a place that is no whole number")
    if dtype not in DTYPES:
        raise InputError(
            f"{name!r} in {path} has the dtype {dtype!r}: save it as float32 or float64"
        )
    return dtype, shape, begin, end


def _check_cover(spans: list[tuple[int, int]], size: int, path: Path) -> None:
    """The arrays lie one after the other and fill the file."""
    at = 0
    for begin, end in spans:
        if begin != at:
            raise _damaged(path, "its arrays overlap or leave holes")
        at = end
    if at != size:
        raise _damaged(path, "its arrays do not fill the file")


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is not a whole .safetensors file ({why}): save the weights again")

"""Arrays from files of strangers: the members asked for, and no more bytes than their shapes take.

An archive may list members that unpack to anything. So nothing is unpacked whose size was not
compared first, archives are read in pieces of bounded size, and members nobody asked for, whatever
they are, stay where they are.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from overparam.files import open_regular
from overparam.verification.refusal import RefusedError

PIECE = 2**20
"""Bytes read at a time. A table of contents must fit in: some ten thousand members."""

HEADER = 2**10
"""Bytes of an array's header at most; NumPy writes 128."""

Shape = tuple[int, ...]


def read_arrays(path: Path, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Some arrays of an .npz file, in the machine's byte order.

    Args:
        path: The file.
        shapes: The shapes that the arrays must have, by name.

    Returns:
        Arrays of whole numbers, float16, float32 or float64.

    Raises:
        InputError: There is no such file.
        RefusedError: It is damaged, or an array is missing, of another shape or of another type.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(_Pieces(file)) as archive:
                members = _members(archive)
                return {name: _array(archive, members, name, shapes[name]) for name in shapes}
        except RefusedError as error:
            raise RefusedError(f"{path.name}: {error}") from error
        except Exception as error:  # a flipped bit of an archive can raise nearly anything
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise RefusedError(f"{path.name} is damaged or cut short ({text})") from error


class _Pieces(io.RawIOBase):
    """A file whose reader may not ask for more than a piece."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = max(self._size - self.tell(), 0)
        if size > PIECE:
            raise RefusedError("its table of contents is far too long")
        return self._file.read(size)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if members.setdefault(member.filename, member) is not member:
            raise RefusedError(f"the member {member.filename[:80]!r} stands twice")
    return members


def _array(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, shape: Shape
) -> np.ndarray:
    if f"{name}.npy" not in members:
        raise RefusedError(f"the array {name} is missing")
    member, most = members[f"{name}.npy"], 8 * math.prod(shape) + HEADER
    if member.file_size > most:
        raise RefusedError(
            f"{name} takes {member.file_size:,} bytes, which is more than the shape {shape} of "
            "the certificate"
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedError(f"{name} is packed in a way that .npz files are not")
    content = bytearray()
    with archive.open(member) as packed:
        while len(content) <= most and (piece := packed.read(PIECE)):
            content += piece
    return _parsed(content, name, shape)


def _parsed(content: bytearray, name: str, shape: Shape) -> np.ndarray:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise RefusedError(f"{name} is in a version of NumPy's format that numbers do not need")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    found, columns_first, dtype = read_header(stream, max_header_size=HEADER)
    if dtype.kind not in "fiu":
        raise RefusedError(f"{name} is not an array of numbers")
    if dtype.itemsize > 8:
        raise RefusedError(
            f"{name} is of type {dtype.name}: numbers beyond float64 are not checked"
        )
    if found != shape:
        raise RefusedError(f"{name} has the shape {found}, the certificate says {shape}")
    if len(content) != stream.tell() + math.prod(shape) * dtype.itemsize:
        raise RefusedError(f"{name} is damaged or cut short")
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    array = flat.reshape(shape, order="F" if columns_first else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)

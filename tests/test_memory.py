"""Sizes of memory, read and written for people."""

import pytest

from overparam.errors import InputError
from overparam.memory import available_memory, parse_size, readable


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (2 * 2**30, "2.0 GiB"),
        (5 * 2**40, "5.0 TiB"),
        (3000 * 2**40, "3000.0 TiB"),
    ],
)
def test_readable(size, text):
    assert readable(size) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("512MiB", 512 * 2**20), (" 1.5 kib ", 1536), ("100", 100), ("7b", 7)],
)
def test_parse_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0MB", "2 parsecs", "1e3GB", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="is not a memory size: write it like 2GB or 512MiB"):
        parse_size(text)


def test_some_memory_is_available_and_less_than_exists():
    assert 2**20 < available_memory() < 2**50

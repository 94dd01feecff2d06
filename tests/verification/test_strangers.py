"""Files from strangers: read by size and by name, refused in a sentence, whatever they hold."""

import io
import json
import math
import os
import resource
import shutil
import threading
import time
import zipfile

import numpy as np
import pytest
from flint import arb, ctx
from small_run import tiny_run

from overparam import MLP, InputError, Measure, Problem, certify, load_certificate
from overparam.verification import verify
from overparam.verification.arrays import read_arrays
from overparam.verification.refusal import RefusedError

GIGABYTE = 2**30


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    tiny_run().save(path)
    return path


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(autouse=True)
def frugal():
    """Each of these takes less than 256 MiB, and less than ten seconds of the processor."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18
    assert time.process_time() - begun < 10


def refusal(path) -> str:
    """The one sentence, whether the certificate is refused or the input is."""
    try:
        result = verify(path)
    except InputError as error:
        return str(error)
    assert not result.ok
    assert len(result.reasons) == 1
    return result.reasons[0]


def members(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, *changes, packing=zipfile.ZIP_STORED):
    """The archive with members replaced or added; a pair names the member and its content."""
    pairs = list((members(path) | dict(changes[:1])).items()) + list(changes[1:])
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in pairs:
            archive.writestr(name, content)


def saved_array(array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


# --- certificates ---------------------------------------------------------------------------------


def test_a_pipe_is_not_waited_for(folder):
    (folder / "certificate.json").unlink()
    os.mkfifo(folder / "certificate.json")
    assert "no regular file" in refusal(folder / "certificate.json")
    with pytest.raises(InputError, match="no regular file"):
        load_certificate(folder / "certificate.json")


@pytest.mark.parametrize("name", ["certificate.json", "params.npz", "data.npz"])
def test_a_device_is_not_read(folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert name in refusal(folder / "certificate.json")


def test_five_gigabytes_of_nothing(folder):
    with (folder / "certificate.json").open("wb") as file:
        file.truncate(5 * GIGABYTE)
    assert "far longer than a certificate" in refusal(folder / "certificate.json")
    with pytest.raises(InputError, match="far longer than a certificate"):
        load_certificate(folder / "certificate.json")


@pytest.mark.parametrize("count", [50_000, 1_500_000])
def test_unknown_fields_by_the_thousand(folder, count):
    fields = ",".join(f'"x{i}":1' for i in range(count))
    (folder / "certificate.json").write_text("{" + fields + "}")
    assert "certificate" in refusal(folder / "certificate.json")


@pytest.mark.parametrize("depth", [300, 990, 100_000])
def test_deeply_nested(folder, depth):
    content = json.loads((folder / "certificate.json").read_text())
    text = json.dumps(content | {"why": "@"}).replace('"@"', "[" * depth + "]" * depth)
    (folder / "certificate.json").write_text(text)
    assert "certificate" in refusal(folder / "certificate.json")


@pytest.mark.parametrize("path", ["no\0name", "x" * 5000, "/nowhere/certificate.json", "."])
def test_paths_that_are_no_files(path):
    with pytest.raises(InputError, match="cannot read") as error:
        verify(path)
    assert "\n" not in str(error.value)


# --- arrays ---------------------------------------------------------------------------------------


def test_members_nobody_asked_for_do_not_matter(folder):
    """Neither a text, nor what NumPy would unpickle, nor what unpacks to gigabytes."""
    rewrite(folder / "params.npz", ("README.txt", b"hello"), ("evil.npy", b"\x80\x04."))
    with (
        zipfile.ZipFile(folder / "data.npz", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("bomb.npy", "w") as member,
    ):
        for _ in range(320):
            member.write(b"\0" * 2**20)
    assert verify(folder / "certificate.json").ok


def test_an_array_larger_than_the_certificate_says_is_not_unpacked(folder):
    with zipfile.ZipFile(
        folder / "data.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": (10**8, 3)}
        )
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            for _ in range(320):
                member.write(b"\0" * 2**20)
    assert "more than the shape (2, 2)" in refusal(folder / "certificate.json")


def test_sizes_that_fit_no_memory_are_refused_before_any_file_is_read(folder):
    """Both the certificate and an archive of zeros say that there are a billion points."""
    content = json.loads((folder / "certificate.json").read_text())
    content["problem"]["points"] = 10**9
    (folder / "certificate.json").write_text(json.dumps(content))
    (folder / "data.npz").write_bytes(b"")
    assert "of memory" in refusal(folder / "certificate.json")


def test_an_archive_as_large_as_a_disk(folder):
    with (folder / "data.npz").open("r+b") as file:
        file.truncate(5 * GIGABYTE)
    assert "data.npz is damaged" in refusal(folder / "certificate.json")


def test_a_table_of_contents_without_end(folder):
    with zipfile.ZipFile(folder / "data.npz", "w") as archive:
        for i in range(30_000):
            archive.writestr(f"{i}.npy", b"")
    assert "table of contents" in refusal(folder / "certificate.json")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("fortran", [False, True])
def test_either_order_of_bytes_and_of_axes(folder, order, fortran):
    changes = []
    for name, content in members(folder / "params.npz").items():
        array = np.load(io.BytesIO(content))
        array = np.array(array.astype(array.dtype.newbyteorder(order)), order="FC"[not fortran])
        changes.append((name, saved_array(array)))
    with zipfile.ZipFile(folder / "params.npz", "w") as archive:
        for name, content in changes:
            archive.writestr(name, content)
    assert verify(folder / "certificate.json").reasons == ()


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        (np.longdouble, "beyond float64"),
        (np.complex128, "not an array of numbers"),
        (bool, "not an array of numbers"),
        ("U3", "not an array of numbers"),
    ],
)
def test_other_types_of_numbers_are_named(folder, dtype, message):
    array = np.load(folder / "data.npz")["y"].astype(dtype)
    rewrite(folder / "data.npz", ("y.npy", saved_array(array)))
    assert message in refusal(folder / "certificate.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "damaged"),
        (b"\x93NUMPY\x01\x00\xff\xff", "damaged"),
        (b"\x93NUMPY\x03\x00\x10\x00\x00\x00", "version"),
        (saved_array(np.zeros((2, 2)))[:-8], "cut short"),
        (saved_array(np.zeros((2, 3))), "the certificate says"),
        (saved_array(np.zeros((2, 2)))[:6] + b"\x02\x00" + b"\xff" * 300, "damaged"),
    ],
)
def test_arrays_that_are_none(folder, content, message):
    rewrite(folder / "data.npz", ("x.npy", content))
    assert message in refusal(folder / "certificate.json")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_stands_twice_is_ambiguous(folder):
    again = ("x.npy", saved_array(np.ones((2, 2))))
    rewrite(folder / "data.npz", *[("other.npy", b""), again])
    assert "stands twice" in refusal(folder / "certificate.json")


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_unpack_without_limit_are_not_unpacked(folder, packing):
    rewrite(folder / "data.npz", packing=packing)
    assert "packed" in refusal(folder / "certificate.json")


def test_a_member_that_is_missing(folder):
    with pytest.raises(RefusedError, match=r"data.npz: the array z is missing"):
        read_arrays(folder / "data.npz", {"x": (2, 2), "z": (2,)})


# --- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [0, -64, 63, 2**16 + 1, 10**20])
def test_precisions_out_of_range(folder, precision):
    with pytest.raises(InputError, match="from 64 to 65,536 bits"):
        verify(folder / "certificate.json", precision=precision)


def cancelling():
    """An output of 1 that 10^100 - 10^100 + 1 gives: beyond 128 bits."""
    model = MLP(3, (), 1, "identity", weight_scale=math.sqrt(3.0), bias_scale=0.0)
    params = (np.array([[1e100, -1e100, 1.0]]),), (np.zeros(1),)
    return Problem(model, Measure(np.ones((1, 3)), [2.0])), params


def test_a_true_claim_beyond_the_precision_names_the_option():
    problem, params = cancelling()
    honest = certify(problem, params, theorem="1")
    assert honest.constants["excess"].value == pytest.approx(0.5)
    reasons = verify(honest, problem, params).reasons
    assert reasons
    assert all("--precision 256" in reason and "nan" not in reason for reason in reasons)
    assert verify(honest, problem, params, precision=512).reasons == ()


def test_a_false_claim_within_the_precision_does_not(folder):
    content = json.loads((folder / "certificate.json").read_text())
    content["numbers"]["max_eigenvalue"] *= 1 - 1e-5
    content["numbers"]["displacement"] *= 1 - 1e-5
    (folder / "certificate.json").write_text(json.dumps(content))
    assert "--precision" not in refusal(folder / "certificate.json")


def test_re_checks_in_threads_take_turns(folder):
    """FLINT has one precision for the process: it is neither mixed up nor left changed."""
    seen, outcomes = [], []

    def check(bits: int) -> None:
        tell = lambda *_: seen.append((bits, ctx.prec))  # noqa: E731
        outcomes.append(verify(folder / "certificate.json", precision=bits, progress=tell).ok)

    before = ctx.prec
    threads = [threading.Thread(target=check, args=(bits,)) for bits in (64, 128, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True, True, True]
    assert all(bits == found for bits, found in seen)
    assert ctx.prec == before


def test_a_precision_changed_by_others_decides_nothing(folder):
    """As a thread would that uses FLINT for itself."""

    def disturb(*_) -> None:
        ctx.prec = 10

    before = ctx.prec
    with pytest.raises(InputError, match="another thread changed FLINT's precision"):
        verify(folder / "certificate.json", progress=disturb)
    assert ctx.prec == before
    assert arb(2).sqrt().rad() < 1e-10

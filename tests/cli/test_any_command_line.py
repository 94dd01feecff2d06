"""The command line under random options and files: never a traceback, one line where it says no.

Options are drawn from the commands' own declarations, so that a new one is attacked without a word
here. The jobs themselves are real, but for what would take long: a certificate's training and
measurements are left out in the quick tests, and a study's cells and the processes of a cluster
in all.
"""

import io
import itertools
import os
import tempfile
import warnings
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import click
import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overparam.cli import anchor, certify, coordcheck, kernel
from overparam.cli.commands import cli
from overparam.cli.main import main
from overparam.data.sources import BUNDLED
from overparam.errors import InputError
from overparam.pipeline.from_initialisation import Drawn

STATUS = {0, 1, 2, 130}
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
"""Of each quick test; an hour of it: FUZZ_EXAMPLES=20000."""

RUNS = itertools.count(1)

quietly = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

# What a process can be given as an argument: no null byte, and surrogates for bytes only.
characters = st.characters(exclude_characters="\0", exclude_categories=("Cs",)) | st.sampled_from(
    "\udcff\udc80\x1b\x07\n\r\t\u202e[]{}=%;,-"
)
words = st.text(characters, max_size=12)
huge = st.sampled_from([2**31 - 1, 2**31, 2**32, 2**63, 10**30, -(2**63), 10**400])
integers = st.integers(-2, 40) | huge
floats = st.floats() | st.sampled_from([0.0, 0.5, 1.0, 1e-300, 1e300, 1e-8, 1e8, -1.0])
cells = st.sampled_from(
    (
        *("1", "2.5", "-3e2", "0", "1e308", "-1e308", "5e-324", "nan", "inf", "", "?", "NA", "x"),
        *("yes", "1,5", "2,25", '"q"', '"', "1_0", " 7 ", "\x1b[2J", "9" * 40, "1e999"),
    )
)


def argument(option):
    """A value for an option, as it is typed: mostly of its type, seldom anything."""
    kind = option.type
    if isinstance(kind, click.Choice):
        good = st.sampled_from(list(kind.choices))
    elif isinstance(kind, click.types.IntParamType):
        good = integers.map(str)
    elif isinstance(kind, click.types.FloatParamType):
        good = floats.map(repr)
    elif option.name == "memory":
        good = st.sampled_from(["1KB", "64MB", "2GB", "9TB", "1e9", "0", "-1MB", "9" * 400])
    elif option.name == "activation":
        good = st.sampled_from(["gelu", "relu", "tanh", "identity", "abs_linear:1", "gelu:2"])
    elif option.name == "loss":
        good = st.sampled_from(
            (
                *("squared", "huber:0.5", "huber:nan", "log_cosh", "expectile:2", "squared_hinge"),
                *("smoothed_cross_entropy:0.1", "weighted_quadratic:1,2", "weighted_quadratic:,"),
            )
        )
    elif option.name == "out":
        good = st.sampled_from(["out", "K.npy", "K.zarr", "a/b/K.npy", "table.csv", "n" * 300, ""])
    else:
        good = st.sampled_from(["y", "parity", "target", "a"])
    return st.one_of(*[good] * 7, words)


@st.composite
def options(draw, command):
    """Some of a command's options, typed."""
    declared = [p for p in cli.commands[command].params if isinstance(p, click.Option)]
    # Processes of a cluster would wait for one another.
    declared = [p for p in declared if p.name not in ("processes", "help", "tensorboard")]
    typed = []
    for option in draw(st.lists(st.sampled_from(declared), max_size=5, unique_by=id)):
        typed.append(draw(st.sampled_from(option.opts + option.secondary_opts)))
        if not option.is_flag:
            typed.append(draw(argument(option)))
    return typed


@st.composite
def csv_file(draw):
    separator = draw(st.sampled_from([",", ",", ";", "\t", "|"]))
    columns = draw(st.integers(1, 4))
    plain = st.integers(0, 30).map(str)
    cell = draw(st.sampled_from([plain, plain, st.one_of(*[plain] * 9, cells), cells]))
    rows = draw(st.lists(st.lists(cell, min_size=columns, max_size=columns), max_size=8))
    head = list("abxy"[-columns:]) if draw(st.integers(0, 3)) else draw(st.lists(words, max_size=4))
    text = "\n".join(separator.join(line) for line in [head, *rows])
    return "table.csv", text.encode("utf-8", "surrogateescape")


@st.composite
def npz_file(draw):
    kinds = st.sampled_from(["f4", "f2", ">f8", "i8", "u1", "?", "c16", "U3", "M8[D]"])
    kind = draw(st.just("f8") | kinds)
    shape = draw(st.just((6, 2)) | st.sampled_from([(6,), (0, 2), (6, 0), (1, 1), (6, 2, 2), ()]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    x = (10.0 ** draw(st.sampled_from([0, 200, -200])) * rng.normal(size=shape)).clip(0, 1e300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = x.astype(np.float64).astype("i8").astype(kind) if kind == "M8[D]" else x.astype(kind)
    y = draw(st.sampled_from([rng.normal(size=6), np.arange(6) % 2, np.eye(6)[:, :3], np.ones(6)]))
    stream = io.BytesIO()
    np.savez(stream, **{draw(st.sampled_from(["x", "x", "x", "z"])): x, "y": y})
    return "table.npz", damaged(draw, stream.getvalue())


@st.composite
def parquet_file(draw):
    values = st.sampled_from(
        (
            *([1, 2, 3, 4], [0.5, None, 2.0, 1.5], ["a", "b", "a", "b"], [True, False] * 2),
            *([float("nan"), 1.0, 2.0, 3.0], [[1], [2], [3], [4]], [1e308, -1e308, 0.0, 1.0]),
        )
    )
    columns = draw(st.sets(words | st.sampled_from("abxy"), min_size=1, max_size=4))
    frame = pl.DataFrame({name: draw(values) for name in columns})
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return "table.parquet", damaged(draw, stream.getvalue())


def damaged(draw, content):
    """The same, or now and then with a byte changed or the end missing."""
    if not content or draw(st.integers(0, 3)):
        return content
    place = draw(st.integers(0, len(content) - 1))
    if draw(st.booleans()):
        return content[:place]
    return content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]


raw = st.tuples(
    st.sampled_from(["table.csv", "table.npz", "table.parquet"]), st.binary(max_size=60)
)
files = csv_file() | npz_file() | parquet_file() | raw


@st.composite
def weights_file(draw):
    """A network of 2 inputs, 3 units and 1 output, of any size of weights."""
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    scale = 10.0 ** draw(st.just(0) | st.sampled_from([-300, -30, -8, 8, 30, 150, 300]))
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (1, 3), "2.bias": (1,)}
    arrays = {name: scale * rng.normal(size=shape) for name, shape in shapes.items()}
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(list(arrays)))
        arrays[name] = draw(st.sampled_from([np.ones(0), np.ones((2, 2)), np.array("a")]))
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return "weights.npz", damaged(draw, stream.getvalue())


names = st.sampled_from([*BUNDLED, "diabetes", ".", "..", "/dev/null", "n" * 5000]) | words


def run(arguments, *files):
    """Run the command in a new folder; return its status, and check what it said."""
    out, err, status = io.StringIO(), io.StringIO(), None
    if next(RUNS) % 500 == 0:
        jax.clear_caches()  # a program takes memory maps, of which a process has 65,530
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        for name, content in files:
            Path(name).write_bytes(content)
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
    said = err.getvalue()
    assert status in STATUS, (arguments, status, said)
    if status == 2:
        lines = [line for line in said.splitlines() if line.startswith("overparam: ")]
        lines = [line for line in lines if " is left out: " not in line]
        assert len(lines) == 1, (arguments, said)
        assert said.replace("\n", "").isprintable(), (arguments, said)
    return status


@pytest.fixture
def described_only(monkeypatch):
    """Of certificates and kernels everything up to the first kernel, of a study to its cells."""

    def describe(dataset, settings=None, **_):
        Drawn(dataset, settings)
        raise InputError("enough")

    monkeypatch.setattr(certify, "run_job", describe)

    monkeypatch.setattr(kernel, "write_kernel", enough)
    monkeypatch.setattr(anchor, "anchor_network", enough)
    monkeypatch.setattr(coordcheck, "coordinate_check", enough)
    monkeypatch.setattr("overparam.studies.run.run_sweep", enough)


def enough(*arguments, **options):
    raise InputError("enough")


@quietly
@given(source=names, typed=options("certify"))
def test_certify_with_any_options(described_only, source, typed):
    run(["certify", source, *typed])


@quietly
@given(file=files, typed=options("certify"))
def test_certify_of_any_table(described_only, file, typed):
    run(["certify", file[0], *typed], file)


@quietly
@given(file=files, typed=options("kernel"), infinite=st.booleans())
def test_kernel_of_any_table(described_only, file, typed, infinite):
    small = ["--width", "4", "--depth", "1", *["--infinite"] * infinite]
    run(["kernel", file[0], "--out", "K.npy", *small, *typed], file)


@quietly
@given(name=st.sampled_from(["eoc", "lazy", "moments", ".", "a.b"]) | words, typed=options("study"))
def test_study_with_any_options(described_only, name, typed):
    run(["study", name, *typed])


@quietly
@given(files=st.tuples(npz_file(), weights_file() | raw), typed=options("anchor"))
def test_anchor_at_any_weights(described_only, files, typed):
    (table, content), weights = files
    weights = (f"weights{Path(weights[0]).suffix}", weights[1])
    run(["anchor", weights[0], table, "--activation", "tanh", *typed], weights, (table, content))


@quietly
@given(file=files, typed=options("coordcheck"))
def test_coordcheck_of_any_table(described_only, file, typed):
    run(["coordcheck", file[0], *typed], file)


@quietly
@given(content=st.binary(max_size=60) | words.map(lambda t: t.encode("utf-8", "surrogateescape")))
def test_verify_of_any_file(content):
    run(["verify", "certificate.json"], ("certificate.json", content))
    run(["verify", "."], ("certificate.json", content))


@settings(quietly, max_examples=max(EXAMPLES // 40, 3))
@given(file=csv_file(), typed=options("width"))
def test_width_of_any_table(file, typed):
    run(["width", file[0], "--samples", "4", "--test-fraction", "0", *typed, "--depth", "1"], file)


# Set against what would take long; the last one counts.
SMALL = ("--width", "8", "--depth", "1", "--steps", "2", "--max-steps", "2", "--no-consequences")


@pytest.mark.slow
@quietly
@given(file=files, typed=options("certify"))
def test_certify_to_the_end(file, typed):
    run(["certify", file[0], *typed, *SMALL], file)


@pytest.mark.slow
@quietly
@given(files=st.tuples(npz_file(), weights_file()), typed=options("anchor"))
def test_anchor_to_the_end(files, typed):
    small = ("--activation", "tanh", "--check-steps", "2", "--polish", "1")
    run(["anchor", "weights.npz", files[0][0], *typed, *small], *files)


@pytest.mark.slow
@quietly
@given(file=files, typed=options("kernel"), infinite=st.booleans())
def test_kernel_to_the_end(file, typed, infinite):
    small = ["--width", "4", "--depth", "1", *["--infinite"] * infinite]
    run(["kernel", file[0], "--out", "K.npy", *typed, *small], file)


@pytest.mark.slow
@quietly
@given(file=files, typed=options("coordcheck"))
def test_coordcheck_to_the_end(file, typed):
    small = ("--widths", "2,4", "--depth", "1", "--steps", "1", "--seeds", "1")
    run(["coordcheck", file[0], *typed, *small], file)


@pytest.mark.parametrize("name", list(cli.commands))
def test_every_command_explains_itself(name):
    assert run([name, "--help"]) == 0

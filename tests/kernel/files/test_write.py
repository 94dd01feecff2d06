"""Kernels in files: the same numbers as in memory, whatever happens on the way."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import zarr
from written import (
    KERNEL,
    MODEL,
    PARAMS,
    POINTS,
    TILES,
    begin,
    contents,
    read,
)

from networks import draw_inputs
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import EmpiricalKernel, empirical_ntk
from overparam.kernel.files.stored import StoredKernel
from overparam.kernel.files.write import write_kernel
from overparam.kernel.infinite.infinite_kernel import InfiniteKernel
from overparam.kernel.infinite.infinite_ntk import infinite_ntk


@pytest.mark.parametrize("x2", [None, draw_inputs(5, MODEL, 2)], ids=["symmetric", "cross"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.sample(4)
def test_a_file_holds_the_kernel(path, x2, dtype):
    kernel = EmpiricalKernel(MODEL, PARAMS, POINTS, x2, dtype=dtype)
    seen = []
    result = write_kernel(kernel, path, block=3, progress=lambda *step: seen.append(step[1:]))
    stored, exact = read(path), empirical_ntk(MODEL, PARAMS, POINTS, x2)
    assert stored.dtype.name == result.dtype == dtype
    assert stored.shape == result.shape == exact.shape
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    np.testing.assert_allclose(stored, exact, rtol=tolerance, atol=tolerance)
    assert x2 is not None or np.array_equal(stored, stored.T)
    tiles = TILES if x2 is None else 4 * 2
    assert seen == [(done, tiles) for done in range(tiles + 1)]
    assert result.tiles == result.computed == tiles
    left = {path.name, path.name + ".json"} if path.suffix == ".npy" else {path.name}
    assert {p.name for p in path.parent.iterdir()} == left


def test_a_npy_file_can_be_mapped_and_says_what_it_is(tmp_path):
    write_kernel(KERNEL, tmp_path / "K.npy")
    mapped = np.load(tmp_path / "K.npy", mmap_mode="r")
    assert mapped[4, 7] == pytest.approx(empirical_ntk(MODEL, PARAMS, POINTS)[4, 7], rel=1e-12)
    about = json.loads((tmp_path / "K.npy.json").read_text())
    assert about["kernel"] == "empirical NTK"
    assert about["widths"] == [3, 6, 4, 2]
    assert about["shape"] == [22, 22]


def test_a_zarr_array_has_a_chunk_for_each_tile_and_says_what_it_is(tmp_path):
    write_kernel(KERNEL, tmp_path / "K.zarr", block=3)
    array = zarr.open_array(str(tmp_path / "K.zarr"), mode="r")
    assert array.chunks == (6, 6)
    assert array.attrs["overparam"]["activation"][0] == "gelu"


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("x2", [None, draw_inputs(5, MODEL, 2)], ids=["symmetric", "cross"])
def test_infinite_kernels_by_tiles(path, kind, x2):
    write_kernel(InfiniteKernel(MODEL, POINTS, x2, kind=kind), path, block=4)
    exact = getattr(infinite_ntk(MODEL, POINTS, x2), kind)
    np.testing.assert_allclose(read(path), exact, rtol=1e-12)


@pytest.mark.parametrize("stops", [(0,), (1, 4), (3, 3, 9), (TILES,)])
def test_an_interrupted_call_goes_on_and_gives_the_same_bytes(path, stops):
    whole = path.with_stem("whole")
    write_kernel(KERNEL, whole, block=3)
    for tiles in stops:
        begin(path, tiles)
    result = write_kernel(KERNEL, path, block=3)
    assert result.computed == TILES - max(stops)
    assert contents(path) == contents(whole)


def test_going_on_takes_the_block_of_the_file_begun(path):
    begin(path)
    assert write_kernel(KERNEL, path).block == (3, 3)
    assert write_kernel(KERNEL, path).computed == 0


def test_a_finished_file_is_not_computed_again(path):
    write_kernel(KERNEL, path, block=3)
    before = contents(path)
    result = write_kernel(KERNEL, path, block=3, memory=1)
    assert result.computed == 0
    assert contents(path) == before


def test_a_kill_between_the_last_two_steps_is_no_loss(path):
    """The file has its name, and the folder is still there."""
    partial = begin(path, TILES)
    shutil.copytree(partial, partial.with_name("copy"))
    write_kernel(KERNEL, path, block=3)
    shutil.move(partial.with_name("copy"), partial)
    assert write_kernel(KERNEL, path, block=3).computed == 0
    assert not partial.exists()


def test_a_kill_while_the_array_is_exported_is_no_loss(tmp_path):
    path = tmp_path / "K.npy"
    partial = begin(path, TILES)
    (partial / "kernel.npy").write_bytes(b"\x93NUMPY cut short")
    assert write_kernel(KERNEL, path, block=3).computed == 0
    np.testing.assert_allclose(np.load(path), empirical_ntk(MODEL, PARAMS, POINTS), rtol=1e-12)


def test_an_unfinished_file_is_a_zarr_array_without_the_missing_tiles(path):
    matrix = zarr.open_array(str(begin(path, 4) / "kernel.zarr"), mode="r")[:]
    exact = empirical_ntk(MODEL, PARAMS, POINTS)
    there = ~np.isnan(matrix)
    assert there.sum() == 6 * 6 + 2 * (6 + 6 + 4) * 6  # the first column of tiles, and its mirror
    np.testing.assert_allclose(matrix[there], exact[there], rtol=1e-12)


# --- What is on the disk is not what it should be -------------------------------------------------


def test_a_memory_too_small_is_refused_with_what_is_needed(path):
    with pytest.raises(InputError, match=r"tiles of 1 by 1 points need [0-9.]+ KiB: raise it$"):
        write_kernel(KERNEL, path, memory=100)
    with pytest.raises(InputError, match=r"tiles of 9 by 9 .* block of [1-8] or fewer"):
        write_kernel(KERNEL, path, memory=20_000, block=9)
    assert list(path.parent.iterdir()) == []


def test_the_memory_decides_the_block(path):
    assert write_kernel(KERNEL, path, memory=20_000).block < (9, 9)


def test_a_disk_too_small_is_found_out_before_any_work(path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(5000, 4000, 1000))
    kernel = EmpiricalKernel(MODEL, PARAMS, draw_inputs(60, MODEL, 1))
    with pytest.raises(InputError, match=r"needs [0-9.]+ KiB more on a disk with 1000 bytes free"):
        write_kernel(kernel, path, block=3)


@pytest.fixture
def file_size_limit():
    """Lets files grow to 20,000 bytes, as a quota would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("path", [".npy", ".zarr"], indirect=True)
def test_a_file_that_cannot_grow_is_one_line_and_no_loss(path, file_size_limit):
    points = draw_inputs(60, MODEL, 1)  # 115,200 bytes
    kernel = EmpiricalKernel(MODEL, PARAMS, points)
    with pytest.raises(InputError, match=r"no room for .*make room, then the same command"):
        write_kernel(kernel, path, block=30)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    write_kernel(kernel, path)
    np.testing.assert_allclose(read(path), empirical_ntk(MODEL, PARAMS, points), rtol=1e-11)


@pytest.mark.parametrize("step", ["write", "_export"])
def test_a_disk_that_fills_up_on_the_way_is_no_loss(tmp_path, monkeypatch, step):
    path, act = tmp_path / "K.npy", getattr(StoredKernel, step)
    calls = []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 8 or step == "_export":
            raise OSError(28, os.strerror(28))
        act(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StoredKernel, step, full)
        with pytest.raises(InputError, match=r"No space left on device.*same command continues"):
            write_kernel(KERNEL, path, block=3)
    assert not path.exists()
    assert write_kernel(KERNEL, path).computed == (3 if step == "write" else 0)
    np.testing.assert_allclose(read(path), empirical_ntk(MODEL, PARAMS, POINTS), rtol=1e-12)


# --- Input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: EmpiricalKernel(MODEL, PARAMS, np.zeros((4, 2))), r"x1 has shape \(4, 2\)"),
        (lambda: EmpiricalKernel(MODEL, PARAMS, POINTS, np.zeros((4, 2))), r"x2 has shape"),
        (lambda: EmpiricalKernel(MODEL, PARAMS, np.zeros((0, 3))), r"x1 has shape \(0, 3\)"),
        (lambda: EmpiricalKernel(MODEL, PARAMS, POINTS * np.nan), "x1 is not finite in row 1"),
        (
            lambda: EmpiricalKernel(MODEL, PARAMS, POINTS, dtype="float16"),
            "unknown dtype",
        ),
        (lambda: InfiniteKernel(MODEL, np.zeros((4, 2))), r"x1 has shape \(4, 2\)"),
        (lambda: InfiniteKernel(MODEL, POINTS * np.inf), "x1 is not finite in row 1"),
        (
            lambda: InfiniteKernel(MODEL, POINTS, kind="nntk"),
            "did you mean 'ntk'",
        ),
    ],
)
def test_unusable_input_is_named(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("K.csv", {}, r"must end in .npy or .zarr"),
        ("K.npy", {"block": 0}, "block must be a whole number, 1 or more"),
        ("K.npy", {"devices": ()}, "devices is empty"),
        ("file/K.npy", {}, "cannot write to the folder"),
    ],
)
def test_unusable_arguments_are_named(tmp_path, name, arguments, complaint):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=complaint):
        write_kernel(KERNEL, tmp_path / name, **arguments)


# --- Processes of their own -----------------------------------------------------------------------

RUN = """
import sys, numpy as np
from overparam.kernel.empirical.empirical_ntk import EmpiricalKernel
from overparam.kernel.files.write import write_kernel
from overparam.model.mlp import MLP

model, draw = MLP(8, (64,)), np.random.default_rng(0).standard_normal
params = ((draw((64, 8)), draw((1, 64))), (draw(64), draw(1)))
kernel = EmpiricalKernel(model, params, draw((1500, 8)))
result = write_kernel(kernel, sys.argv[1], block=25)  # 1,830 tiles
print(result.computed, result.damaged)
"""


@pytest.mark.slow
def test_kills_at_any_moment_leave_the_same_bytes(path):
    whole, rng = path.with_stem("whole"), np.random.default_rng(0)
    command = [sys.executable, "-c", RUN]
    subprocess.run([*command, whole], check=True, capture_output=True)
    chunks = path.with_name(path.name + ".partial") / "kernel.zarr" / "c"
    for _ in range(5):
        before = sum(1 for _ in chunks.rglob("*"))
        process = subprocess.Popen([*command, path], stdout=subprocess.PIPE)
        while process.poll() is None and sum(1 for _ in chunks.rglob("*")) < before + 20:
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0, 0.2)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = subprocess.run([*command, path], check=True, capture_output=True, text=True)
    tiles, damaged = map(int, last.stdout.split())
    assert tiles < 1830 - 5 * 5
    assert damaged == 0
    assert contents(path) == contents(whole)


MEASURE_PEAK = """
import re, sys, numpy as np
from overparam.kernel.empirical.empirical_ntk import EmpiricalKernel
from overparam.kernel.files.write import write_kernel
from overparam.model.mlp import MLP

def peak():
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s*([0-9]+)", status)[1]) * 1024

model, budget, draw = MLP(8, (2048,)), 32 * 2**20, np.random.default_rng(0).standard_normal
params = ((draw((2048, 8)), draw((1, 2048))), (draw(2048), draw(1)))
first, second = (EmpiricalKernel(model, params, draw((n, 8))) for n in (300, 3000))
suffix = sys.argv[2]
write_kernel(first, sys.argv[1] + "/first" + suffix, memory=budget, block=150)
before = peak()
write_kernel(second, sys.argv[1] + "/second" + suffix, memory=budget, block=150)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
@pytest.mark.slow
def test_memory_stays_within_the_budget(tmp_path, suffix):
    """The kernel takes 69 MiB, the layers of all points 94 MiB; the budget is 32."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run(
        [sys.executable, "-c", MEASURE_PEAK, tmp_path, suffix],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert int(run.stdout) <= 32 * 2**20

"""Several devices and several processes give the bytes that one gives."""

import os
import socket
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
import zarr

from overparam.errors import InputError
from overparam.kernel.files import write
from overparam.kernel.files.processes import share
from overparam.kernel.tiles import Tile

JOBS = """
import sys, jax, numpy as np
if len(sys.argv) > 2:
    jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))  # before anything else of JAX
from overparam.kernel.empirical.empirical_ntk import EmpiricalKernel
from overparam.kernel.infinite.infinite_kernel import InfiniteKernel
from overparam.kernel.files.write import write_kernel
from overparam.model.mlp import MLP

draw = np.random.default_rng(0).standard_normal
model, x1, x2 = MLP(5, (16, 12), 3), draw((41, 5)), draw((18, 5))
params = model.init(jax.random.key(0))
KERNELS = {
    "symmetric.npy": EmpiricalKernel(model, params, x1),
    "cross.npy": EmpiricalKernel(model, params, x1, x2),
    "single.npy": EmpiricalKernel(model, params, x1, dtype="float32"),
    "symmetric.zarr": EmpiricalKernel(model, params, x1),
    "infinite.npy": InfiniteKernel(MLP(5, (16,), 3, "erf"), x1[:24]),
}
"""

FORCED = """
assert len(jax.devices()) == 4
for name, kernel in KERNELS.items():
    for devices in (1, 4):
        path = f"{sys.argv[1]}/{devices}-{name}"
        result = write_kernel(kernel, path, block=6, devices=jax.devices()[:devices])
        assert result.computed == result.tiles
all_of_them = write_kernel(KERNELS["cross.npy"], sys.argv[1] + "/all-cross.npy", block=6)
"""

TOGETHER = """
folder = sys.argv[1]
assert jax.process_count() == 2
for name, kernel in KERNELS.items():
    result = write_kernel(kernel, f"{folder}/{name}", block=6)
    assert 0 < result.computed < result.tiles, result
    assert result.path.exists()
try:
    write_kernel(KERNELS["cross.npy"], f"{folder}/symmetric.npy")
except ValueError as error:
    print(error)
"""


def run(code, *arguments, devices=1):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(
        [sys.executable, "-c", JOBS + code, *map(str, arguments)],
        env=os.environ | flags,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(*processes):
    """What they printed; none is left behind if one of them fails."""
    results = [process.communicate(timeout=1800) for process in processes]
    for process, (_, errors) in zip(processes, results, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in results]


def read(path):
    return np.load(path) if path.suffix == ".npy" else zarr.open_array(str(path), mode="r")[:]


@pytest.fixture(scope="module")
def forced(tmp_path_factory):
    """Every kernel by 1, 3 and 4 forced host devices."""
    folder = tmp_path_factory.mktemp("forced")
    finished(run(FORCED, folder, devices=4))
    return folder


NAMES = ("symmetric.npy", "cross.npy", "single.npy", "symmetric.zarr", "infinite.npy")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_several_devices_give_the_bytes_of_one(forced, name):
    alone = read(forced / f"1-{name}")
    assert np.isfinite(alone).all()
    assert np.array_equal(read(forced / f"4-{name}"), alone)


@pytest.mark.slow
def test_all_devices_are_used_by_default(forced):
    assert np.array_equal(read(forced / "all-cross.npy"), read(forced / "1-cross.npy"))


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(forced, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    outputs = finished(*(run(TOGETHER, tmp_path, coordinator, number) for number in (0, 1)))
    for name in NAMES:
        assert np.array_equal(read(tmp_path / name), read(forced / f"1-{name}"))
    assert all("symmetric.npy is of another job" in output for output in outputs)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_are_even_and_cover_all_tiles(count):
    tiles = [Tile(i, j) for i in range(4) for j in range(i + 1)]
    shares = [share(tiles, number, count) for number in range(count)]
    assert list(chain.from_iterable(shares)) == tiles
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.fixture
def first_of_two(monkeypatch):
    """As if this were process 0 of 2, and both went on."""
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr(write, "together", lambda action: action())
    return monkeypatch


def test_a_process_that_stopped_is_noticed_by_the_others(tmp_path, first_of_two):
    """Process 0 writes its share; process 1 died and left the lock that nobody holds."""
    from test_write import KERNEL, begin

    path = tmp_path / "K.npy"
    (begin(path, 0) / "process-1.lock").touch()
    with pytest.raises(InputError, match=r"process 1 of 2 has stopped.*start all of them again"):
        write.write_kernel(KERNEL, path, block=3)
    first_of_two.undo()
    assert write.write_kernel(KERNEL, path).computed == 5


def test_a_matrix_with_a_missing_tile_is_never_called_finished(tmp_path, first_of_two):
    """Process 1 seems to be done, and its tiles are not there."""
    from test_write import KERNEL

    with pytest.raises(InputError, match=r"lost tiles while it was written: start again"):
        write.write_kernel(KERNEL, tmp_path / "K.npy", block=3)
    assert not (tmp_path / "K.npy").exists()

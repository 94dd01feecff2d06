"""A kernel and its file, begun and left."""

import numpy as np
import pytest
import zarr

from networks import draw_inputs, draw_params
from overparam.kernel.empirical.empirical_ntk import EmpiricalKernel
from overparam.kernel.files.write import write_kernel
from overparam.model.mlp import MLP

MODEL = MLP(3, (6, 4), 2)
PARAMS, POINTS = draw_params(MODEL), draw_inputs(11, MODEL, 1)
KERNEL = EmpiricalKernel(MODEL, PARAMS, POINTS)
TILES = 10  # blocks of 3 points: 4 x 5 / 2


class StopError(Exception):
    pass


def contents(path):
    """Every byte of a file or folder."""
    if path.is_file():
        return path.read_bytes()
    return {p.relative_to(path): contents(p) for p in sorted(path.rglob("*")) if p.is_file()}


def read(path):
    return np.load(path) if path.suffix == ".npy" else zarr.open_array(str(path), mode="r")[:]


def stop_after(tiles):
    def progress(_, done, total):
        if done == tiles:
            raise StopError

    return progress


def begin(path, tiles=4, kernel=KERNEL):
    """An unfinished file with some tiles."""
    with pytest.raises(StopError):
        write_kernel(kernel, path, block=3, progress=stop_after(tiles))
    return path.with_name(path.name + ".partial")

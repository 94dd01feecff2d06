"""Files that a call finds: damaged, of another job, from elsewhere, or in use."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from written import KERNEL, MODEL, PARAMS, POINTS, TILES, begin, contents, read

from networks import draw_params
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import EmpiricalKernel, empirical_ntk
from overparam.kernel.files.processes import at_work
from overparam.kernel.files.write import write_kernel
from overparam.kernel.infinite.infinite_kernel import InfiniteKernel
from overparam.model.mlp import MLP


def chunk_file(path, row, column):
    return path.with_name(path.name + ".partial") / "kernel.zarr" / "c" / str(row) / str(column)


def flip_a_bit(chunk):
    data = bytearray(chunk.read_bytes())
    data[17] ^= 4
    chunk.write_bytes(data)


@pytest.mark.parametrize("damage", [flip_a_bit, lambda c: c.write_bytes(b"short"), Path.touch])
@pytest.mark.parametrize("at", [(1, 0), (0, 1)], ids=["tile", "mirror image"])
def test_a_damaged_tile_is_computed_again(path, damage, at):
    whole = path.with_stem("whole")
    write_kernel(KERNEL, whole, block=3)
    begin(path, 5)
    chunk = chunk_file(path, *at)
    if damage is Path.touch:  # a power failure swallows what was not on the disk yet
        chunk.unlink()
    damage(chunk)
    result = write_kernel(KERNEL, path, block=3)
    assert (result.damaged, result.computed) == (1, TILES - 4)
    assert contents(path) == contents(whole)


def test_a_missing_mirror_image_and_a_chunk_cut_short_by_a_kill_leave_no_trace(path):
    whole = path.with_stem("whole")
    write_kernel(KERNEL, whole, block=3)
    begin(path, 5)
    chunk_file(path, 0, 1).unlink()
    chunk_file(path, 0, 1).with_name("1.0123456789abcdef.partial").write_bytes(b"short")
    result = write_kernel(KERNEL, path, block=3)
    assert (result.damaged, result.computed) == (0, TILES - 4)
    assert contents(path) == contents(whole)


def frame(partial):
    return partial / "kernel.zarr" / "zarr.json"


def cut(partial):
    frame(partial).write_bytes(frame(partial).read_bytes()[:-20])


def break_shape(partial):
    frame(partial).write_text(frame(partial).read_text().replace("22", "23", 1))


def lose_frame(partial):
    frame(partial).unlink()


def break_block(partial):
    text = frame(partial).read_text()
    frame(partial).write_text(re.sub(r'"block": \[\s*3,', '"block": [0,', text))


@pytest.mark.parametrize("damage", [cut, break_shape, lose_frame, break_block])
def test_a_damaged_unfinished_file_is_refused_with_the_mend(path, damage):
    partial = begin(path)
    damage(partial)
    with pytest.raises(InputError, match=r"is damaged \(.*delete .*partial|delete it") as refusal:
        write_kernel(KERNEL, path, block=3)
    assert "\n" not in str(refusal.value)
    assert write_kernel(KERNEL, path, block=3, overwrite=True).computed == TILES


OTHERS = {
    "parameters": EmpiricalKernel(MODEL, draw_params(MODEL, seed=1), POINTS),
    "x1": EmpiricalKernel(MODEL, PARAMS, POINTS[::-1]),
    "x2": EmpiricalKernel(MODEL, PARAMS, POINTS, POINTS),
    "dtype": EmpiricalKernel(MODEL, PARAMS, POINTS, dtype="float32"),
    "shape": EmpiricalKernel(MODEL, PARAMS, POINTS[:7]),
    "weight_scale": EmpiricalKernel(MLP(3, (6, 4), 2, weight_scale=1.1), PARAMS, POINTS),
    "activation": EmpiricalKernel(MLP(3, (6, 4), 2, "tanh"), PARAMS, POINTS),
    "kernel": InfiniteKernel(MODEL, POINTS),
}


@pytest.mark.parametrize("difference", OTHERS)
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.sample(10)
def test_the_file_of_another_job_is_never_touched_silently(path, difference, finished):
    write_kernel(KERNEL, path, block=3) if finished else begin(path)
    before = contents(path.parent)
    with pytest.raises(InputError, match=f"another job .it differs in .*{difference}"):
        write_kernel(OTHERS[difference], path)
    assert contents(path.parent) == before
    result = write_kernel(OTHERS[difference], path, overwrite=True)
    assert read(path).shape == result.shape == OTHERS[difference].shape


def test_another_block_is_another_file(path):
    begin(path)
    with pytest.raises(InputError, match="differs in block"):
        write_kernel(KERNEL, path, block=4)
    assert write_kernel(KERNEL, path, block=4, overwrite=True).block == (4, 4)


def test_a_file_from_elsewhere_is_never_overwritten_silently(path):
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="does not say which kernel it holds"):
        write_kernel(KERNEL, path)
    assert path.read_bytes() == b"precious"
    write_kernel(KERNEL, path, overwrite=True)
    assert read(path).shape == (22, 22)


def replace(path):
    """Another array of the same shape, by somebody else."""
    if path.suffix == ".npy":
        np.save(path, np.ones((22, 22)))
    else:
        zarr.open_array(str(path), mode="r+")[:] = 1.0


def change_one_entry(path):
    array = np.load(path, mmap_mode="r+") if path.suffix == ".npy" else zarr.open_array(str(path))
    array[21, 20] += 1
    if path.suffix == ".npy":
        array.flush()


def lose_the_last_tile(path):
    if path.suffix == ".npy":
        os.truncate(path, path.stat().st_size - 8)
    else:
        (path / "c" / "3" / "3").unlink()


@pytest.mark.parametrize("change", [replace, change_one_entry, lose_the_last_tile])
def test_an_array_saved_over_a_finished_kernel_is_not_taken_for_it(path, change):
    write_kernel(KERNEL, path, block=3)
    change(path)
    before = contents(path)
    with pytest.raises(InputError, match=r"changed or replaced since .* name another file"):
        write_kernel(KERNEL, path, block=3)
    assert contents(path) == before
    assert write_kernel(KERNEL, path, block=3, overwrite=True).computed == TILES
    np.testing.assert_allclose(read(path), empirical_ntk(MODEL, PARAMS, POINTS), rtol=1e-12)


def test_a_copy_of_a_finished_kernel_is_the_finished_kernel(path):
    """It is compared as a whole, and nothing computed."""
    write_kernel(KERNEL, path, block=3)
    copy = path.with_stem("copy")
    for file in path.parent.glob(path.name + "*"):
        to = file.with_name(file.name.replace("K", "copy", 1))
        shutil.copytree(file, to, copy_function=shutil.copyfile) if file.is_dir() else (
            shutil.copyfile(file, to)
        )
    assert write_kernel(KERNEL, copy, block=3).computed == 0


def test_a_finished_kernel_may_be_read_only(path):
    write_kernel(KERNEL, path, block=3)
    for file in [path, *path.rglob("*")]:
        file.chmod(0o555 if file.is_dir() else 0o444)
    assert write_kernel(KERNEL, path, block=3).computed == 0


def test_a_folder_that_is_no_zarr_array_is_never_deleted(tmp_path):
    (tmp_path / "K.zarr").mkdir()
    (tmp_path / "K.zarr" / "thesis.tex").touch()
    with pytest.raises(InputError, match="a folder and no Zarr array"):
        write_kernel(KERNEL, tmp_path / "K.zarr", overwrite=True)
    assert (tmp_path / "K.zarr" / "thesis.tex").exists()


def test_two_processes_do_not_write_the_same_file(path):
    partial = begin(path)
    with at_work(partial, 0), pytest.raises(InputError, match="another process is at work"):
        write_kernel(KERNEL, path)
    assert write_kernel(KERNEL, path).computed == TILES - 4


# --- Memory and disk ------------------------------------------------------------------------------

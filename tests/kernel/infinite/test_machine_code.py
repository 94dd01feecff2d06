"""Numba's files from an earlier run may be damaged, foreign or impossible to write."""

import os
import subprocess
import sys

import pytest

RUN = """
import numpy as np
from overparam.kernel.infinite.machine_code import compiled
from {module} import twice
print(twice(np.float64(4)), len(twice.stats.cache_hits), len(twice.stats.cache_misses))
"""

MODULE = """
from overparam.kernel.infinite.machine_code import compiled

@compiled
def twice(x):
    return 2 * x
"""


@pytest.fixture
def run(tmp_path):
    """Compile and call a function in a process of its own; its result, and loads and misses."""
    (tmp_path / "module.py").write_text(MODULE)

    def started(before=""):
        done = subprocess.run(
            [sys.executable, "-c", before + RUN.format(module="module")],
            # A limit on the size of files is not to cut those in which Python keeps its modules.
            env=os.environ
            | {"NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": path}
            | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        result, loaded, missed = done.stdout.split()
        return float(result), int(loaded), int(missed)

    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    return started


def files(tmp_path, kind):
    found = list((tmp_path / "kept").rglob(f"*.{kind}"))
    assert found
    return found


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"junk" * 50, None], ids=["empty", "foreign", "cut"])
@pytest.mark.sample(1)
def test_damaged_machine_code_is_compiled_anew_and_mended(tmp_path, run, kind, content):
    assert run() == (8, 0, 1)
    assert run() == (8, 1, 0)
    for path in files(tmp_path, kind):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert run() == (8, 0, 1)
    assert run() == (8, 1, 0)


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
"""


@pytest.mark.slow
def test_a_full_disk_is_done_without(run):
    assert run(FULL) == (8, 0, 1)
    assert run() == (8, 0, 1)
    assert run() == (8, 1, 0)


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path, run):
    (tmp_path / "kept").write_text("in the way")
    assert run()[0] == 8

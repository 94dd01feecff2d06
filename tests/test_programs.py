"""Compiled programs kept between runs; each run is a process of its own."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from overparam.programs import prune

RUN = """
import warnings; warnings.simplefilter("error")
import jax, jax.numpy as jnp
from overparam.programs import keep_programs
print(keep_programs())
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
print(float(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.arange(5.0))))
print(len(hits))
"""


def start(cache, program=RUN, **settings):
    """The program in a process of its own, whose cache folder is below ``cache``."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=clean | {"XDG_CACHE_HOME": str(cache)} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """The folder, a result, and how many programs were loaded from the folder."""
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    folder, result, hits = output.split()
    return folder, float(result), int(hits)


def run(cache, program=RUN, **settings):
    return end(start(cache, program, **settings))


def programs(folder):
    found = sorted(Path(folder).glob("*-cache"))
    assert found
    return found


def test_a_second_run_compiles_nothing_again(tmp_path):
    folder, first, hits = run(tmp_path)
    assert folder.startswith(str(tmp_path))
    assert hits == 0
    again, second, hits = run(tmp_path)
    assert (again, second) == (folder, first)
    assert hits > 0


@pytest.mark.parametrize(
    "content",
    [b"", b"\x78\x9ccut short", b"not packed", zlib.compress(b"of another version")],
    ids=["empty", "cut", "foreign", "other"],
)
@pytest.mark.sample(1)
def test_a_damaged_program_is_compiled_anew(tmp_path, content):
    folder, first, _ = run(tmp_path)
    for path in programs(folder):
        path.write_bytes(content)
    assert run(tmp_path) == (folder, first, 0)


def test_what_was_not_written_to_its_end_is_mended(tmp_path):
    folder = run(tmp_path)[0]
    for path in programs(folder):
        os.truncate(path, path.stat().st_size // 2)
    run(tmp_path)
    assert run(tmp_path)[2] > 0


FULL = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
{RUN}"""


def test_a_full_disk_is_done_without_and_leaves_nothing_behind(tmp_path):
    folder, first, hits = run(tmp_path, FULL)
    assert hits == 0
    assert run(tmp_path) == (folder, first, 0)  # now there is room
    assert run(tmp_path)[2] > 0


@pytest.mark.slow
def test_several_runs_at_once(tmp_path):
    results = [end(process) for process in [start(tmp_path) for _ in range(3)]]
    assert len({(folder, result) for folder, result, _ in results}) == 1
    assert run(tmp_path)[2] > 0


def test_no_run_waits_for_another(tmp_path):
    """A limit of JAX's own would come with a lock on the folder."""
    folder, _, _ = run(tmp_path, JAX_COMPILATION_CACHE_MAX_SIZE=str(2**30))
    assert programs(folder)
    assert not (Path(folder) / ".lockfile").exists()


def test_a_user_without_a_home_does_without():
    """As in a container that runs under a number no user has."""
    unknown = f"import pwd; pwd.getpwuid = lambda number: {{}}[number]\n{RUN}"
    assert run("", unknown, HOME="")[0] == "None"


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    folder, _, hits = run(tmp_path / "file")
    assert (folder, hits) == ("None", 0)


@pytest.mark.slow
def test_what_the_user_chose_is_left(tmp_path):
    own = str(tmp_path / "own")
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=own)[0] == own
    assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")[0] == "None"
    assert not (tmp_path / "overparam").exists()


@pytest.mark.slow
def test_a_damaged_folder_of_the_users_own_is_silent(tmp_path):
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")}
    own["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    _, first, _ = run(tmp_path, **own)
    for path in programs(tmp_path / "own"):
        path.write_bytes(b"")
    assert run(tmp_path, **own)[1:] == (first, 0)


def test_the_oldest_programs_go_first(tmp_path):
    for age, name in enumerate("abcd"):
        path = tmp_path / f"{name}-cache"
        path.write_bytes(bytes(10))
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "another's").write_bytes(bytes(100))
    prune(tmp_path, 25)
    assert {path.name for path in tmp_path.iterdir()} == {"a-cache", "b-cache", "another's"}
    prune(tmp_path, 20)
    assert len(list(tmp_path.iterdir())) == 3

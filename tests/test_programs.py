"""Compiled programs kept between runs; each run is a process of its own."""

import os
import subprocess
import sys

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


def run(cache, **settings):
    """The folder, a result, and how many programs were loaded from the folder."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env=clean | {"XDG_CACHE_HOME": str(cache)} | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    folder, result, hits = done.stdout.split()
    return folder, float(result), int(hits)


def test_a_second_run_compiles_nothing_again(tmp_path):
    folder, first, hits = run(tmp_path)
    assert folder.startswith(str(tmp_path))
    assert hits == 0
    again, second, hits = run(tmp_path)
    assert (again, second) == (folder, first)
    assert hits > 0


def test_a_damaged_program_is_compiled_anew(tmp_path):
    folder, first, _ = run(tmp_path)
    programs = [os.path.join(folder, name) for name in os.listdir(folder) if "-cache" in name]
    assert programs
    for name in programs:
        os.truncate(name, os.path.getsize(name) // 2)
    assert run(tmp_path) == (folder, first, 0)


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    folder, _, hits = run(tmp_path / "file")
    assert (folder, hits) == ("None", 0)


def test_what_the_user_chose_is_left(tmp_path):
    own = str(tmp_path / "own")
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=own)[0] == own
    assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")[0] == "None"
    assert not (tmp_path / "overparam").exists()


def test_the_oldest_programs_go_first(tmp_path):
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    prune(tmp_path, 25)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    prune(tmp_path, 20)
    assert len(list(tmp_path.iterdir())) == 2

"""Ctrl-C ends with 130 and one line, wherever it comes."""

import subprocess
import sys

import pytest

AT_IMPORT = """
import os, signal, sys

class CtrlC:
    \"\"\"Ctrl-C when a module is looked for.\"\"\"
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
from overparam.cli.main import main
main()
"""

AT_WORK = """
import os, signal
from overparam.cli import main, verify

def recheck(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)

verify.recheck = recheck
main.main()
"""


AT_COLLECTION = """
import gc, os, signal, time
from overparam.cli import main, verify

def ctrl_c(phase, info):
    gc.callbacks.remove(ctrl_c)
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # Python raises the interrupt in here, and ignores it
        pass

def recheck(*arguments, **options):
    gc.callbacks.append(ctrl_c)
    gc.collect()
    time.sleep(60)

verify.recheck = recheck
main.main()
"""


def interrupted(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.stdout == ""
    assert done.stderr.startswith("overparam: interrupted")
    assert done.stderr.count("\n") == 1
    return done.returncode


@pytest.mark.parametrize(
    "name",
    ["click", "overparam.errors", "jax", "jax.numpy", "flint", "overparam.verification.comparison"],
)
def test_while_modules_are_imported(name, tmp_path):
    assert interrupted(AT_IMPORT.format(name=name), "verify", tmp_path) == 130


def test_while_the_command_works(tmp_path):
    (tmp_path / "certificate.json").write_text("{}")
    assert interrupted(AT_WORK, "verify", tmp_path) == 130


def test_while_garbage_is_collected(tmp_path):
    (tmp_path / "certificate.json").write_text("{}")
    assert interrupted(AT_COLLECTION, "verify", tmp_path) == 130


def test_a_handler_that_somebody_else_set_is_left():
    """A program that calls the command line decides itself what Ctrl-C does."""
    program = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from overparam.cli.main import main
try:
    main(["verify", "/nowhere"])
except SystemExit as end:
    print(end.code, signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "2 True\n"


def test_a_reader_that_leaves_is_no_error():
    program = "from overparam.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "study", "--list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 0

"""What ``import overparam`` offers, and what it and the command line's answers do without."""

import pickle
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

import overparam as op
from overparam.public import homes

HEAVY = {
    *("jax", "numba", "scipy", "sklearn", "polars", "zarr", "matplotlib", "flint", "optax"),
    *("jinja2", "jsonschema", "joblib", "rich"),
}


def imported(code, *arguments):
    """The top-level modules that a process of its own has imported when ``code`` is done."""
    listing = "print(*{name.split('.')[0] for name in sys.modules})"
    program = f"import atexit, sys\natexit.register(lambda: {listing})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    return set(done.stdout.splitlines()[-1].split()), done


def test_importing_the_package_imports_no_other():
    names, done = imported("import overparam")
    assert done.returncode == 0
    assert not names & (HEAVY | {"click", "numpy"})


def test_a_certificate_needs_no_library_for_plots_files_or_compiled_kernels():
    names, done = imported("from overparam import *; from overparam import applications")
    assert done.returncode == 0
    assert not names & {"numba", "polars", "zarr", "sklearn", "matplotlib", "jinja2", "joblib"}
    assert not names & {"click", "rich"}
    names, done = imported("from overparam import MLP, Measure, Problem, anchor, certify, load")
    assert done.returncode == 0
    assert names & HEAVY == {"jax", "scipy"}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["certify", "--help"], 0),
        (["kernel", "--help"], 0),
        (["certfy", "iris"], 2),
        (["width", "iris", "--no-such-option"], 2),
        (["width", "iris", "--depth", "two"], 2),
        (["certify", "iris", "--optimizer", "sgdd"], 2),
        (["certify", "iris", "--memory", "much"], 2),
        (["verify"], 2),
    ],
)
def test_help_and_usage_errors_are_answered_without_the_work(arguments, status):
    code = "from overparam.cli.main import main; main()"
    names, done = imported(code, *arguments)
    assert done.returncode == status
    assert done.stderr.count("\n") == (status != 0)
    assert not names & HEAVY


def test_the_command_line_as_a_module():
    command = [sys.executable, "-m", "overparam", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"overparam, version {op.__version__}\n"


NAMESPACES = (
    *("applications", "apriori", "enclosures", "importers", "jacobian", "kernels", "linearised"),
    *("losses", "model", "risk", "sklearn", "steps", "studies", "training"),
)


def test_every_public_name_is_there():
    assert {"MLP", "certify", "train", "load"} <= set(op.__all__) <= set(dir(op))
    assert len(op.__all__) < 45
    for name in op.__all__:
        assert getattr(op, name) is not None
    assert op.losses.get_integrand("squared") == op.SquaredLoss()
    with pytest.raises(AttributeError, match="no attribute 'certfy'"):
        op.certfy  # noqa: B018
    with pytest.raises(ImportError, match="certfy"):
        from overparam import certfy  # noqa: F401


@pytest.mark.parametrize("name", NAMESPACES)
def test_every_name_of_a_namespace_is_there(name):
    assert name in dir(op)
    space = getattr(op, name)
    for public in homes(space.__file__):
        assert getattr(space, public) is not None
        assert public in dir(space)
    with pytest.raises(AttributeError, match="no attribute 'certfy'"):
        space.certfy  # noqa: B018


def test_a_name_that_moved_to_a_namespace_says_where_it_is():
    with pytest.warns(DeprecationWarning, match=r"overparam.nystrom is overparam.kernels.nystrom"):
        assert op.nystrom is op.kernels.nystrom


def exported():
    """Public functions and classes by name, those of the namespaces with theirs."""
    found = {name: getattr(op, name) for name in op.__all__}
    for space in NAMESPACES:
        names = homes(getattr(op, space).__file__)
        found |= {f"{space}.{name}": getattr(getattr(op, space), name) for name in names}
    return found


def mentioned(annotation):
    """The classes of this package in an annotation, those inside unions and containers too."""
    if isinstance(annotation, type) and not get_args(annotation):
        return {annotation} if annotation.__module__.startswith("overparam.") else set()
    return set().union(*map(mentioned, get_args(annotation)), set())


def test_what_public_functions_take_and_return_is_public():
    public = {value for value in exported().values() if isinstance(value, type)}
    missing = {}
    for name, value in exported().items():
        if not isinstance(value, type) and callable(value):
            for annotation in get_type_hints(value).values():
                for found in mentioned(annotation) - public:
                    missing.setdefault(found.__name__, []).append(name)
    assert missing == {}


def test_a_name_that_a_package_has_too_is_the_functions():
    """In either order: the import system binds a package's name whenever it is imported first."""
    for order in ("import overparam.train.closest", "import overparam; overparam.train"):
        code = f"{order}; import overparam.train.loop; assert callable(overparam.train)"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_a_star_takes_the_public_names_only():
    names = {}
    exec("from overparam import *", names)
    assert names.keys() - {"__builtins__"} == set(op.__all__)
    assert "errors" not in names


def test_public_classes_pickle():
    model = op.MLP(2, (3,))
    assert pickle.loads(pickle.dumps(model)) == model
    assert pickle.loads(pickle.dumps(op.certify)) is op.certify

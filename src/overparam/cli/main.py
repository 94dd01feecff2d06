"""The ``overparam`` command: exit status 0 done, 1 a check failed, 2 unusable input, 130 Ctrl-C."""

import sys

import click

from overparam.cli.anchor import anchor
from overparam.cli.certify import certify
from overparam.cli.kernel import kernel
from overparam.cli.study import study
from overparam.cli.terminal import complain, drop_output, quiet_libraries
from overparam.cli.verify import verify
from overparam.cli.width import width
from overparam.errors import InputError, TheoremViolatedError
from overparam.programs import keep_programs


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="overparam")
def cli() -> None:
    """Certificates of convergence for overparameterized networks, on your own data."""


cli.add_command(anchor)
cli.add_command(certify)
cli.add_command(kernel)
cli.add_command(study)
cli.add_command(verify)
cli.add_command(width)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; every error is one line on stderr."""
    keep_programs()
    with quiet_libraries():
        status = _run(arguments)
    sys.exit(status)


def _run(arguments: list[str] | None) -> int:
    try:
        cli.main(arguments, prog_name="overparam", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return _say(
            "interrupted; with --out, or of a study, the same command goes on where it was", 130
        )
    except click.ClickException as error:
        return _say(error.format_message(), 2)
    except InputError as error:
        return _say(str(error), 2)
    except TheoremViolatedError as error:
        return _say(f"a proved statement was violated: {error}", 1)
    except MemoryError:
        return _say("out of memory: take fewer --samples, a smaller --width or fewer outputs", 2)
    except BrokenPipeError:
        drop_output()
        return 0
    except OSError as error:
        drop_output()
        place = error.filename or "the output"
        return _say(f"cannot read or write {place}: {error.strerror or error}", 2)
    return 0


def _say(message: str, status: int) -> int:
    complain(message)
    return status

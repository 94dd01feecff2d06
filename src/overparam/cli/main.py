"""The ``overparam`` command: exit status 0 done, 1 a check failed, 2 unusable input, 130 Ctrl-C."""

import sys

from overparam.cli.endings import INTERRUPTED, drop_output, leaving_at_once, say

with leaving_at_once():
    import click

    from overparam.cli.commands import cli
    from overparam.errors import InputError, TheoremViolatedError


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; every error is one line on stderr."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        cli.main(arguments, prog_name="overparam", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return say("interrupted", INTERRUPTED)
    except click.ClickException as error:
        return say(error.format_message(), 2)
    except InputError as error:
        return say(str(error), 2)
    except TheoremViolatedError as error:
        return say(f"a proved statement was violated: {error}", 1)
    except MemoryError:
        return say("out of memory: take fewer --samples, a smaller --width or fewer outputs", 2)
    except BrokenPipeError:
        drop_output()
        return 0
    except OSError as error:
        drop_output()
        what = "" if error.filename is None else f"{error.filename}: "
        return say(f"{what}{error.strerror or error}", 2)
    return 0

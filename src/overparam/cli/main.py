"""The ``overparam`` command: exit status 0 done, 1 a check failed, 2 unusable input, 130 Ctrl-C."""

import re
import sys

from overparam.cli.endings import INTERRUPTED, hearing_interrupts, leaving_at_once, say
from overparam.cli.terminal import drop_output, flush, quiet_libraries

with leaving_at_once():
    import click

    from overparam.cli.commands import cli
    from overparam.errors import InputError, TheoremViolatedError


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; every error is one line on stderr."""
    with quiet_libraries(), hearing_interrupts():
        status = _run(arguments)
    sys.exit(status)


def _run(arguments: list[str] | None) -> int:
    try:
        cli.main(arguments, prog_name="overparam", standalone_mode=False)
        flush()
    except (KeyboardInterrupt, click.Abort):
        return say("interrupted", INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return say(error.format_message(), 2)
    except InputError as error:
        return say(as_typed(str(error)), 2)
    except TheoremViolatedError as error:
        return say(f"a proved statement was violated: {error}", 1)
    except MemoryError:
        return say("out of memory: take fewer --samples, a smaller --width or fewer outputs", 2)
    except BrokenPipeError:
        drop_output()
        return 0
    except OSError as error:
        drop_output()
        place = error.filename or "the output"
        return say(f"cannot read or write {place}: {error.strerror or error}", 2)
    return 0


def as_typed(message: str) -> str:
    """A message about arguments of Python's functions with the names of the options.

    A name without an underscore may be any word, so it counts as the first one only.
    """
    options = {
        parameter.name: max(parameter.opts, key=len)
        for command in cli.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name
    }
    long = "|".join(sorted((name for name in options if "_" in name), key=len, reverse=True))
    message = re.sub(rf"^({'|'.join(options)})(?= must | is )", lambda m: options[m[1]], message)
    return re.sub(rf"(?<![\w'\"/.-])({long})(?![\w'\"/.=-])", lambda m: options[m[1]], message)

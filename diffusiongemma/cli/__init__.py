"""The command line: one thin module per subcommand. Only what `--help` needs is imported here."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import typer

from diffusiongemma.cli.options import INTERRUPTED
from diffusiongemma.errors import UserError
from diffusiongemma.host import round_alike, wait_passively_among_others

USAGE_ERROR, BROKEN_PIPE = 2, 141
UNWRITABLE = (errno.ENOSPC, errno.EBADF, errno.EIO, errno.EFBIG, errno.EDQUOT)


def build(words: Sequence[str] | None = None) -> typer.Typer:
    """The program; with `words` only the command that they call is loaded."""
    from diffusiongemma.cli.commands import register

    app = typer.Typer(
        name="diffusiongemma",
        help="Run and watch DiffusionGemma, the open text-diffusion language model.",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_top)
    register(app, words)
    return app


def _top(context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        from diffusiongemma import __version__

        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 for a user's mistake or an output that cannot be written, with one line
    on stderr, 130 after Ctrl-C, 141 when the reader of the output has left."""
    _open_standard_streams()
    round_alike()
    wait_passively_among_others()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 must not end in a traceback
    # Leave through the `finally` blocks, which give the terminal its cursor back.
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else list(arguments)))


def _exit_code(arguments: Sequence[str]) -> int:
    from diffusiongemma.cli.spelling import command_of, spelt

    program = typer.main.get_command(build(arguments))
    try:
        code = program(
            args=arguments, prog_name="diffusiongemma", standalone_mode=False, default_map=_defaults(arguments, program)
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except UserError as error:
        return _complain(error.worded(lambda name: spelt(name, command_of(arguments, program))))
    except BrokenPipeError:
        return _given_up_output(BROKEN_PIPE)
    except SystemExit as left:
        # How Click and rich leave when whoever read our output has left.
        if isinstance(left.__context__, BrokenPipeError):
            return _given_up_output(BROKEN_PIPE)
        raise
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise
        return _given_up_output(_complain(f"cannot write the output: {error.strerror}"))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        # Typer's usage errors, whose class moved between its versions.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "diffusiongemma"
        return _complain(f"{error.format_message()} (see {where} --help)")


def _defaults(arguments: Sequence[str], program: Any) -> dict[str, Any]:
    """The user's own defaults, for the command that is called."""
    from diffusiongemma.cli.commands import COMMANDS
    from diffusiongemma.cli.configuration import defaults_for

    called = next((word for word in arguments if word in COMMANDS), None)
    if called is None or any(word in ("-h", "--help") for word in arguments):
        return {}
    return {called: defaults_for(called, program.commands[called])}


def _complain(message: str) -> int:
    with contextlib.suppress(OSError):  # stderr may be what cannot be written
        print("diffusiongemma:", " ".join(message.split()), file=sys.stderr)
    return USAGE_ERROR


def _open_standard_streams() -> None:
    """Put something in the place of a closed stdout or stderr, whose number the next file opened would get."""
    if sys.stdout is None:  # `>&-`: what is written fails, as it does for other programs
        sys.stdout = os.fdopen(_moved(os.open(os.devnull, os.O_RDONLY), 1), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(_moved(os.open(os.devnull, os.O_WRONLY), 2), "w", encoding="utf-8")


def _moved(descriptor: int, number: int) -> int:
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    return number


def _given_up_output(code: int) -> int:
    """`code`, with nothing left that would fail once more at the interpreter's end."""
    with contextlib.suppress(OSError, ValueError):  # no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code

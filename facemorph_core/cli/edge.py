"""The edge between exceptions and people: messages, hints, exit codes.

The only place that catches `FaceMorphError` (beside the hub's error table). Exit codes: those of
`facemorph_core.errors`; 2 for wrong usage; 70 for what we did not foresee; 130 after Ctrl-C, 143
after SIGTERM, 129 after SIGHUP; 141 when the reader of our output has gone, as a shell reports it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from facemorph_core.disk.output import FULL, output_error
from facemorph_core.errors import FaceMorphError
from facemorph_core.machine.printable import printable

UNFORESEEN, SIGNALLED, READER_GONE = 70, 128, 141
DEBUG = "--debug"
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def run(main: Callable[[], object], *, debug: bool | None = None) -> NoReturn:
    """Call ``main`` and leave the process with its exit code (an int that it returns, or 0).

    ``debug`` shows tracebacks; by default it is on if ``--debug`` is on the command line.
    """
    shown = DEBUG in sys.argv if debug is None else debug
    _open_what_is_closed()
    _end_in_order()
    raise SystemExit(exit_code_of(main, debug=shown))


def exit_code_of(main: Callable[[], object], *, debug: bool = False) -> int:
    """Call ``main``, say on stderr what went wrong, and return the exit code."""
    try:
        outcome = main()
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return READER_GONE
    except (KeyboardInterrupt, click.Abort) as error:
        _say("stopped")
        return SIGNALLED + _signal_behind(error)
    except click.ClickException as error:
        return _report_usage(error)
    except Exception as error:  # noqa: BLE001 - this is the edge
        if debug:
            traceback.print_exc()
        return _report(error)
    return outcome if type(outcome) is int else 0


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP; whoever tidies up after Ctrl-C does so now too."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _open_what_is_closed() -> None:
    """A standard stream that the caller closed leads nowhere.

    Left closed, the next file that is opened would get its number, and what libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  for good
            setattr(sys, name, nowhere)


def _end_in_order() -> None:
    """The end of a session and of its terminal unwind as Ctrl-C does, unless they are ignored."""
    if threading.current_thread() is threading.main_thread():
        for number in _ENDINGS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _unwind)


def _unwind(number: int, frame: FrameType | None) -> None:
    """Only the first counts: `make` and schedulers send several, and a tidying up goes on."""
    for each in _ENDINGS:
        signal.signal(each, signal.SIG_IGN)
    raise Ended(number)


def _signal_behind(error: BaseException) -> int:
    """The number that ended us; click makes an Abort of what we raise."""
    cause = error.__cause__ or error
    return cause.number if isinstance(cause, Ended) else signal.SIGINT


def take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """``arguments`` without ``--debug``, wherever it stands before ``--``, and whether it stood."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != DEBUG]
    return kept + arguments[end:], len(kept) < end


def show_warnings() -> None:
    """Let log lines from WARNING upwards reach stderr as ``warning: ...``."""
    handler = _Stderr()
    handler.setFormatter(_Lowercase("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class _Stderr(logging.Handler):
    """Looks for stderr at every line: a progress bar puts itself in its place, to stay below."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except (TypeError, ValueError, LookupError):  # a mistake in a log call ends no command
            line = f"{record.levelname.lower()}: {record.msg}"
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{line}\n")


class _Lowercase(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.levelname = record.levelname.lower()
        return super().formatMessage(record)


def _report(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno in FULL:
        error = output_error(error, error.filename or "the result")
    if isinstance(error, FaceMorphError):
        _say(f"error: {error}")
        if error.hint:
            _say(f" hint: {error.hint}")
        return error.exit_code
    text = " ".join(str(error).split()) or "no message"
    _say(f"error: this should not have happened: {type(error).__name__}: {text}")
    _say(f" hint: run again with {DEBUG} to see where, and report it")
    return UNFORESEEN


def _report_usage(error: click.ClickException) -> int:
    _say(f"error: {error.format_message()}")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        _say(f" hint: {error.ctx.command_path} --help")
    return error.exit_code


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(printable(text, lines=True), err=True)


def _silence_stdout() -> None:
    """Keep the interpreter from complaining when it flushes stdout at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

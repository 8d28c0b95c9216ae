"""The edge between exceptions and people: messages, hints, exit codes.

The only place that catches `FaceMorphError` (beside the hub's error table). Exit codes: those of
`facemorph_core.errors`; 2 for wrong usage; 70 for what we did not foresee, 71 for what the machine
refused (a name, a stream, memory); 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP; 141 when
the reader of our output has gone, as a shell reports it.
"""

from __future__ import annotations

import contextlib
import errno
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

from facemorph_core.disk.output import FULL, TOO_LONG, output_error
from facemorph_core.errors import FaceMorphError
from facemorph_core.machine.printable import spell_out_what_streams_cannot_take, tell

UNFORESEEN, REFUSED, SIGNALLED, READER_GONE = 70, 71, 128, 141
DEBUG = "--debug"
_ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Windows knows no SIGHUP."""
_SHOWN = 80
"""Letters of a name that is too long: its beginning, and its end."""


def run(main: Callable[[], object], *, debug: bool | None = None) -> NoReturn:
    """Call ``main`` and leave the process with its exit code (an int that it returns, or 0).

    ``debug`` shows tracebacks; by default it is on if ``--debug`` is on the command line.
    """
    shown = DEBUG in sys.argv if debug is None else debug
    _open_what_is_closed()
    spell_out_what_streams_cannot_take()
    _end_in_order()
    raise SystemExit(exit_code_of(main, debug=shown))


def exit_code_of(main: Callable[[], object], *, debug: bool = False) -> int:
    """Call ``main``, say on stderr what went wrong, and return the exit code."""
    streams = sys.stdout, sys.stderr
    try:
        outcome = main()
        sys.stdout.flush()
    except BrokenPipeError:
        return READER_GONE
    except SystemExit:
        if streams == (sys.stdout, sys.stderr):
            raise
        sys.stdout, sys.stderr = streams  # click meets such a reader so, puts others there and ends
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
    finally:
        _forget_what_was_not_taken()
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
    told = _in_words(error)
    if told is not None:
        _say(f"error: {told}")
        if told.hint:
            _say(f" hint: {told.hint}")
        return told.exit_code
    text = " ".join(str(error).split()) or "no message"
    _say(f"error: this should not have happened: {type(error).__name__}: {text}")
    _say(f" hint: run again with {DEBUG} to see where, and report it")
    return UNFORESEEN


class _Refused(FaceMorphError):
    """The machine does not do what is asked: no fault of the program's, nor of what was given."""

    exit_code = REFUSED


def _in_words(error: Exception) -> FaceMorphError | None:
    """What happened as a sentence; None for what only a developer can explain."""
    match error:
        case FaceMorphError():
            return error
        case OSError() if error.errno in FULL:
            return output_error(error, error.filename or "the result")
        case OSError():
            return _refused(error)
        case MemoryError():
            return _Refused(
                f"there is not enough memory: {error}" if str(error) else "the memory is full",
                hint="ask for less at a time, such as a smaller --size, or close other programs",
            )
    return None


def _refused(error: OSError) -> _Refused:
    """What no part foresaw of its own file, such as a name that no disk can hold."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        if _folder_is_gone():
            return _Refused(
                "the folder that this was started in is gone", hint="go to one that is there: cd"
            )
        return _Refused(f"the system refuses to read or to write: {reason}")
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
    if error.errno == errno.ENAMETOOLONG:
        short = name if len(name) <= 2 * _SHOWN else f"{name[:_SHOWN]}...{name[-_SHOWN:]}"
        return _Refused(f"{short}: the name is too long", hint=TOO_LONG)
    return _Refused(f"{name}: {reason}")


def _folder_is_gone() -> bool:
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _report_usage(error: click.ClickException) -> int:
    _say(f"error: {error.format_message()}")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        _say(f" hint: {error.ctx.command_path} --help")
    return error.exit_code


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        tell(text, err=True)


def _forget_what_was_not_taken() -> None:
    """What a stream did not take stays in it; at exit the interpreter would complain of it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

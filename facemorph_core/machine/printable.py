"""A stranger's text, fit for a terminal: nothing that moves the cursor, sets a title or hides.

Nor anything that the stream cannot take: a file's name may hold bytes that are no text, and a
terminal or a log of other letters than UTF-8's has no place for most names.
"""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

__all__ = ["printable", "spell_out_what_streams_cannot_take", "tell"]

_SPELLED = "facemorph_core.spelled"
"""Name of the way in which encodings deal with what they cannot write."""
_BYTE = 0xDC00
"""What Python adds to a byte of a file's name that it cannot decode."""


def printable(text: str, *, longest: int | None = None, lines: bool = False) -> str:
    r"""``text`` with all that a terminal would act on spelled out, cut after ``longest``.

    With ``lines``, there may be several, and tabs.

    >>> printable("a\x1b[2Jb\n")
    'a\\x1b[2Jb\\n'
    >>> printable(b"gr\xff.jpg".decode(errors="surrogateescape"))
    'gr\\xff.jpg'
    """
    kept = "\n\t" if lines else ""
    return "".join(
        _spelled(each) if _is_control(each) and each not in kept else each
        for each in text.replace("\r\n", "\n")[:longest]
    )


def tell(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print lines, `printable`, at once, on stdout or stderr; ``nl`` ends the last of them.

    Each stream is looked for now, since a progress bar puts itself in its place to stay below, and
    written in its own encoding, which click would change.

    Raises:
        OSError: the stream takes nothing; it is named as a file would be.
    """
    stream, name = (sys.stderr, "standard error") if err else (sys.stdout, "standard output")
    try:
        stream.write(printable(text, lines=True) + ("\n" if nl else ""))
        stream.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


def spell_out_what_streams_cannot_take() -> None:
    """From now on nothing that is printed is refused for its letters, whoever prints it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_SPELLED)


def _spelled(character: str) -> str:
    number = ord(character)
    if _BYTE + 0x80 <= number <= _BYTE + 0xFF:
        return f"\\x{number - _BYTE:02x}"
    return ascii(character)[1:-1]


def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")


def _unwritable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spelled, error.object[error.start : error.end])), error.end


codecs.register_error(_SPELLED, _unwritable)

"""A stranger's text, fit for a terminal: nothing that moves the cursor, sets a title or hides."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]


def printable(text: str, *, longest: int | None = None, lines: bool = False) -> str:
    r"""``text`` with all that a terminal would act on spelled out, cut after ``longest``.

    With ``lines``, there may be several, and tabs.

    >>> printable("a\x1b[2Jb\n")
    'a\\x1b[2Jb\\n'
    """
    kept = "\n\t" if lines else ""
    return "".join(
        ascii(each)[1:-1] if _is_control(each) and each not in kept else each
        for each in text.replace("\r\n", "\n")[:longest]
    )


def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")

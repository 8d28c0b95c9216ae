"""A stranger's text, fit for a terminal: nothing that moves the cursor, sets a title or hides."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str, *, longest: int | None = None, lines: bool = False) -> str:
    r"""``text`` without what cannot be seen, at most ``longest`` characters; ``lines`` may be many.

    >>> printable("a\x1b[2Jb\n")
    'a[2Jb'
    """
    kept = "\n" if lines else ""
    return "".join(c for c in text[:longest] if c.isprintable() or c in kept)

"""Parts of names for files that we name ourselves, fit for every disk and every system."""

from __future__ import annotations

import unicodedata

__all__ = ["fitting"]

_FORBIDDEN = frozenset('<>:"/\\|?*')
"""By Windows, and on disks that it can read; a photo on another may have them in its name."""
_JOINER = "\N{ZERO WIDTH JOINER}"


def fitting(text: str, most: int) -> str:
    r"""``text`` within a file's name: at most so many bytes, cut between letters.

    Disks count bytes, and an emoji has four. What is no text, moves the cursor or is forbidden
    somewhere becomes an underscore; at the end stands neither a space nor a dot.

    >>> fitting("\N{GRINNING FACE}" * 20, 60) == "\N{GRINNING FACE}" * 15
    True
    >>> fitting(b"12:30 gr\xff".decode(errors="surrogateescape"), 60)
    '12_30 gr_'
    """
    fit = "".join("_" if _is_unfit(each) else each for each in text)
    return fit.encode()[:most].decode(errors="ignore").rstrip(f" .{_JOINER}")


def _is_unfit(letter: str) -> bool:
    return letter in _FORBIDDEN or unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")

"""Tables that people write: CSV as spreadsheets and editors of any country save it.

Separators are comma, semicolon and tab, whichever the header goes by (a line ``sep=;`` above it, as
Excel knows it, decides); the text is UTF-8 or UTF-16. Names of columns count in any case and with
spaces for underscores, spaces around a cell do not count, and a quoted cell may hold separators and
line breaks. Lines that are blank are skipped, and counted: line numbers are those of an editor.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from facemorph_core.errors import PairsError

__all__ = ["Row", "read_table"]

log = logging.getLogger(__name__)

T = TypeVar("T")

SEPARATORS = (",", ";", "\t")
NAMED = 10
"""Problems that are told one by one."""

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # how .xlsx and .ods begin, and .xls
_SAID = re.compile(r'"?sep=([^"\r\n])"?[ ,;\t]*(?:\r\n|\r|\n)', re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_SAVE_AS = "save it as CSV UTF-8 (Excel has it under File, Save As; LibreOffice asks for it)"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table."""

    line: int
    """Where it begins in the file; the first line is 1."""
    cells: Mapping[str, str]
    """Of each column that is known, by its name; "" where there is nothing."""


def read_table(
    file: Path, parse: Callable[[Row], T], *, needed: Sequence[str], also: Sequence[str] = ()
) -> list[T]:
    r"""What ``parse`` makes of each row of a table; a ValueError of it is what is wrong with one.

    The table has the columns ``needed`` and may have those of ``also``. Others are named in a
    warning, for one of them may be a slip of the pen.

    Raises:
        PairsError: it cannot be read, is no text or lacks a column; or some rows are wrong or have
            more cells than the header, which are told together.

    Examples:
        >>> from pathlib import Path
        >>> table = Path("seats.csv")
        >>> _ = table.write_text("Seat; Name\n\n7; anna\n", encoding="utf-16")
        >>> read_table(table, lambda row: row, needed=["name"], also=["seat"])
        [Row(line=3, cells={'name': 'anna', 'seat': '7'})]
    """
    text, first = _text(file), 1
    said = _SAID.match(text)
    if said:
        text, first = text[said.end() :], 2
    wanted = [*needed, *also]
    separator = said[1] if said else max(SEPARATORS, key=lambda each: _fit(text, each, wanted))
    records = _records(file, text, separator, first)
    _, header = next(records, (first, []))
    names = _known_names(file, header, needed, wanted)
    parsed, problems = [], []
    for line, cells in records:
        there = dict(zip(names, cells, strict=False))
        try:
            if any(cells[len(names) :]):
                raise ValueError(
                    f"{len(cells)} cells, where the header has {len(names)} "
                    f"(one that holds '{separator}' belongs in quotes)"
                )
            parsed.append(parse(Row(line, {name: there.get(name, "") for name in wanted})))
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        raise _problems_in(file, problems)
    return parsed


def _problems_in(file: Path, problems: Sequence[str]) -> PairsError:
    if len(problems) == 1:
        return PairsError(f"{file}, {problems[0]}")
    told = [f"  {problem}" for problem in problems[:NAMED]]
    if len(problems) > NAMED:
        told.append(f"  and {len(problems) - NAMED} more")
    return PairsError("\n".join([f"{file} has lines that cannot be used:", *told]))


# --- text --------------------------------------------------------------------------------------


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PairsError(f"{file} cannot be read: {error.strerror or error}") from error
    if data.startswith(_WORKBOOKS):
        raise PairsError(f"{file} cannot be read: it is a workbook, not a CSV file", hint=_SAVE_AS)
    encoding, begin = _encoding(data)
    data = data[begin:]
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = _LINE_END.split(data[: error.start].decode(encoding, "replace"))
        rest = _LINE_END.split(data[error.start :].decode("cp1252", "replace"))
        seen = "" if encoding != "utf-8" else f"; as Windows-1252 it is: {before[-1]}{rest[0]}"
        raise PairsError(
            f"{file}, line {len(before)} is not in {encoding.upper()}{seen[:80]}", hint=_SAVE_AS
        ) from error


def _encoding(data: bytes) -> tuple[str, int]:
    """How a table is encoded, and where it begins behind the mark that says so.

    UTF-16 without a mark has a zero beside its first character.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return encoding, len(mark)
    if data[1:2] == b"\0":
        return "utf-16-le", 0
    return ("utf-16-be" if data[:1] == b"\0" else "utf-8"), 0


# --- lines -------------------------------------------------------------------------------------


def _records(
    file: Path, text: str, separator: str, first: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not blank, and where it begins."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    line = first
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield line, stripped
            line = first + reader.line_num
    except csv.Error as error:
        ends = "unexpected end" in str(error)
        said = "a quote is opened here and never closed" if ends else str(error)
        raise PairsError(f"{file}, line {line}: {said}") from error


def _fit(text: str, separator: str, wanted: Sequence[str]) -> tuple[int, int]:
    """How well a header goes by a separator: columns that are known, and columns in all."""
    try:
        _, header = next(_records(Path(), text, separator), (0, []))
    except PairsError:
        return 0, 0
    return len({_name(cell) for cell in header} & {*wanted}), len(header)


def _known_names(
    file: Path, header: Sequence[str], needed: Sequence[str], wanted: Sequence[str]
) -> list[str]:
    """The columns by our names for them; what is not known is told."""
    named = [cell for cell in header if cell]
    names = [_name(cell) for cell in header]
    missing = [name for name in needed if name not in names]
    if missing:
        raise PairsError(
            f"{file} has no {'columns' if missing[1:] else 'column'} named {' and '.join(missing)} "
            f"(it has {', '.join(named) or 'none'})",
            hint=f"its first line names the columns: {','.join(needed)}, and if they are known "
            f"{','.join(wanted[len(needed) :])}",
        )
    for name in wanted:
        if names.count(name) > 1:
            raise PairsError(f"{file} has {names.count(name)} columns named {name}")
    unused = [cell for cell in named if _name(cell) not in wanted]
    if unused:
        log.warning("%s: not used: %s (columns are %s)", file, ", ".join(unused), ", ".join(wanted))
    while names and not names[-1]:
        names.pop()
    return names


def _name(cell: str) -> str:
    return "_".join(cell.casefold().split())

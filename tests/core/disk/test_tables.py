"""A table means the same however a program saved it, and what is wrong has its line."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.disk.tables import Row, read_table
from facemorph_core.errors import PairsError

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
"""``utf-16`` writes a mark before its text, the last two write none."""

words = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(',;\t"'), max_size=12
).map(str.strip)


def read(data: bytes, needed: tuple[str, ...] = ("a", "b"), also: tuple[str, ...] = ("face",)):
    with TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        file.write_bytes(data)
        return read_table(file, lambda row: row, needed=needed, also=also)


@given(
    rows=st.lists(st.tuples(words, words), max_size=5),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    header=st.sampled_from([("a", "b"), ("A", " B ")]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_a_table_means_the_same_however_it_is_saved(
    rows, separator, encoding, end, header, quoting
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerows([header, *rows])
    found = read(stream.getvalue().encode(encoding))
    assert [(row.cells["a"], row.cells["b"]) for row in found] == [r for r in rows if any(r)]
    assert [row.line for row in found] == [n for n, r in enumerate(rows, start=2) if any(r)]
    assert all(row.cells["face"] == "" for row in found)


@given(
    gaps=st.lists(st.sampled_from(["", "  ", ";", " ; ; ", "\t"]), max_size=6),
    breaks=st.integers(0, 3),
)
def test_lines_count_as_in_an_editor(gaps: list[str], breaks: int) -> None:
    """Blank ones, those that a spreadsheet leaves behind, and those within a cell."""
    long = '"x' + "\r\n" * breaks + 'y"'
    lines = [*gaps[:3], "a;b", *gaps, f"{long};first", *gaps, "2;last"]
    text = "\r\n".join(lines)
    first, last = read(text.encode())
    editor = text.split("\r\n")
    assert editor[first.line - 1].startswith('"x')
    assert editor[last.line - 1] == "2;last"
    assert first.cells["a"] == "x" + "\r\n" * breaks + "y"


@pytest.mark.parametrize("text", ["sep=;\na;b\n1;2,3\n", '"sep=;"\r\na;b\r\n1;2,3\r\n'])
def test_the_line_of_excel_above_the_header_says_the_separator(text: str) -> None:
    assert read(text.encode()) == [Row(3, {"a": "1", "b": "2,3", "face": ""})]


def test_a_header_with_commas_in_a_name_goes_by_its_semicolons() -> None:
    (row,) = read(b"notes, long, longer, longest;a;b\nx,y;1;2\n")
    assert (row.cells["a"], row.cells["b"]) == ("1", "2")


def test_names_of_columns_are_read_as_people_write_them() -> None:
    (row,) = read(b"  Face A ,A,FACE\n1, 2, 3\n", ("a",), ("face", "face_a"))
    assert row.cells == {"a": "2", "face": "3", "face_a": "1"}


def test_what_is_not_used_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read(b"a,b,Fase,,\n1,2,3,,\n")
    (said,) = caplog.messages
    assert "not used: Fase" in said
    assert "a, b, face" in said


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a;c\n1;2\n", r"t\.csv has no column named b \(it has a, c\)"),
        (b"a,b,A\n1,2,3\n", "has 2 columns named a"),
        (b"a,b\n1,2\n\nDoe, Jane.jpg,3\n", "line 4: 3 cells, where the header has 2"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "line 3: a quote is opened here and never closed"),
        (b'a,b\n1,2\n"3"4,5\n', "line 3: ',' expected after"),
        ("a;b\n1;2\nJörg.jpg;3\n".encode("cp1252"), "line 3 is not in UTF-8; .*: Jörg.jpg;3"),
        ("a,b\r\n1,ü\r\n".encode("utf-16")[:-1], "line 3 is not in UTF-16-LE"),
        (b"PK\x03\x04 and so on", "is a workbook, not a CSV file"),
        (b"\xd0\xcf\x11\xe0 and so on", "is a workbook, not a CSV file"),
    ],
)
def test_what_is_wrong_has_its_line(data: bytes, words: str) -> None:
    with pytest.raises(PairsError, match=words):
        read(data)


def test_the_way_out_of_another_encoding_is_told() -> None:
    with pytest.raises(PairsError) as caught:
        read("a;b\nJörg.jpg;3\n".encode("cp1252"))
    assert "CSV UTF-8" in str(caught.value.hint)


def test_all_lines_that_are_wrong_are_told_together(tmp_path: Path) -> None:
    def parse(row: Row) -> None:
        if row.cells["a"] == "1":
            raise ValueError("one is none")

    file = tmp_path / "t.csv"
    file.write_text("a,b\n" + "".join(f"{n},2{',3' * (n != 1)}\n" for n in range(14)))
    with pytest.raises(PairsError) as caught:
        read_table(file, parse, needed=["a", "b"])
    said = str(caught.value)
    assert "line 2: 3 cells" in said
    assert "line 3: one is none" in said
    assert "line 11: 3 cells" in said
    assert "line 12:" not in said
    assert said.endswith("and 4 more")

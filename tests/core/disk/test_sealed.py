"""A sealed file is what was written, or it is nothing."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.disk.hashing import file_crc32
from facemorph_core.disk.sealed import read_sealed, write_sealed
from tests.damage import KINDS, damage


@given(content=st.binary(max_size=200), data=st.data())
def test_any_other_byte_and_any_other_length_is_noticed(
    content: bytes, data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "f"
        write_sealed(file, content)
        assert read_sealed(file) == content
        whole = file.read_bytes()
        place = data.draw(st.integers(0, len(whole) - 1))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << data.draw(st.integers(0, 7))
        for wrong in (bytes(flipped), whole[:place], whole + b"x"):
            file.write_bytes(wrong)
            assert read_sealed(file) is None


def test_what_is_damaged_is_said_and_what_is_not_there_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_sealed(tmp_path / "nothing") is None
        assert caplog.messages == []
        for kind in KINDS:
            write_sealed(tmp_path / "f", b"ten bytes.")
            damage(tmp_path / "f", kind)
            assert read_sealed(tmp_path / "f") is None
        (tmp_path / "folder").mkdir()
        assert read_sealed(tmp_path / "folder") is None
    assert [said.split(" is ")[1] for said in caplog.messages[:-1]] == ["damaged, and"] * len(KINDS)
    assert "cannot be read" in caplog.messages[-1]


@given(content=st.binary(min_size=1, max_size=1000))
def test_the_checksum_of_a_file_is_that_of_its_bytes(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "f").write_bytes(content)
        assert file_crc32(Path(folder) / "f") == zlib.crc32(content)

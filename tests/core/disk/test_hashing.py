"""A file has one hash, whoever asks and however it is read."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from facemorph_core.disk.hashing import file_sha256, stream_sha256

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 5000])
def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path, content):
    file = tmp_path / "file"
    file.write_bytes(content)
    assert file_sha256(file) == hashlib.sha256(content).hexdigest()
    with file.open("rb") as stream:
        stream.seek(2)
        assert stream_sha256(stream) == hashlib.sha256(content[2:]).hexdigest()
        assert stream.read() == b""


def test_nobody_else_hashes_files():
    by_hand = re.compile(r"file_digest|sha256\(.*read_bytes")
    parts = ("facemorph_core", "client", "server", "simulations", "benchmarks", "tools")
    files = [file for part in parts for file in (ROOT / part).rglob("*.py")]
    assert [f.name for f in files if by_hand.search(f.read_text())] == ["hashing.py"]

"""The zip around a bundle, in one canonical form that checks itself.

Members are stored (never compressed) in a given order with fixed dates and attributes, so the
same members always give the same bytes. A reader takes the members out, packs them again and
compares: a file that differs anywhere (header, padding, directory, comment, order) is not what
`pack` wrote. There is nothing to decompress, hence no zip bomb, and any zip tool can look inside.

References:
    | APPNOTE.TXT, .ZIP File Format Specification 6.3.10 (PKWARE, 2022)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")

_NEEDED = 10  # "version needed" 1.0: plain stored files
_MADE_BY = 3 << 8 | _NEEDED  # Unix, so that the mode below is read
_DATE = 1 << 5 | 1  # 1980-01-01, the earliest date a zip can hold
_MODE = 0o100644 << 16  # a regular file, rw-r--r--
MAX_MEMBERS = 64
MAX_BYTES = 2**31  # no zip64: a face autoencoder of 2 GiB would be another format


class NotCanonical(ValueError):
    """The bytes are not what `pack` writes; the message says in which way."""


def pack(members: Mapping[str, bytes | memoryview]) -> bytes:
    """The canonical zip of ``members``, in their order. Names are plain ASCII file names."""
    body, directory, offset = [], [], 0
    for name, data in members.items():
        encoded = name.encode("ascii")
        facts = (0, 0, 0, _DATE, zlib.crc32(data), len(data), len(data))
        local = _LOCAL.pack(LOCAL, _NEEDED, *facts, len(encoded), 0) + encoded
        where = (len(encoded), 0, 0, 0, 0, _MODE, offset)
        directory.append(_CENTRAL.pack(CENTRAL, _MADE_BY, _NEEDED, *facts, *where) + encoded)
        body += [local, data]
        offset += len(local) + len(data)
    index = b"".join(directory)
    count = len(directory)
    end = _END.pack(END, 0, 0, count, count, len(index), offset, 0)
    if offset + len(index) + len(end) > MAX_BYTES:
        raise ValueError(f"a bundle holds at most {MAX_BYTES} bytes")
    return b"".join([*body, index, end])


def unpack(data: bytes) -> dict[str, memoryview]:
    """The members of a canonical zip, in order, without copying.

    Raises:
        NotCanonical: if a single byte differs from what `pack` would write.
    """
    if not data.startswith(LOCAL):
        raise NotCanonical("it is empty" if not data else "it is not a zip file")
    members: dict[str, memoryview] = {}
    view, offset = memoryview(data), 0
    while data[offset : offset + 4] == LOCAL:
        name, start, end = _local(data, offset)
        if name in members or len(members) == MAX_MEMBERS:
            raise NotCanonical(f"member {name!r} is there twice, or there are too many members")
        members[name] = view[start:end]
        offset = end
    if pack(members) != data:
        raise NotCanonical("its bytes differ from what its members and their checksums give")
    return members


def _local(data: bytes, offset: int) -> tuple[str, int, int]:
    """Name, first and last+1 byte of the member whose header is at ``offset``."""
    if len(data) < offset + _LOCAL.size:
        raise NotCanonical("it ends in the middle of a header")
    *_, size, name_length, extra = _LOCAL.unpack_from(data, offset)
    start = offset + _LOCAL.size + name_length
    name = data[offset + _LOCAL.size : start]
    if extra or not name.isascii() or start + size > len(data):
        raise NotCanonical("it is cut short, or another tool packed it")
    return name.decode("ascii"), start, start + size

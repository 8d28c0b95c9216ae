"""What disks and crashes do to a file: it is cut short, emptied, or a bit of it is another."""

from __future__ import annotations

from pathlib import Path

KINDS = ("cut", "emptied", "a bit at the start", "a bit in the middle", "a bit at the end")


def damage(file: Path, kind: str) -> None:
    data = bytearray(file.read_bytes())
    match kind:
        case "cut":
            del data[len(data) // 2 :]
        case "emptied":
            data.clear()
        case _:
            place = {"start": 0, "middle": len(data) // 2, "end": len(data) - 1}
            data[place[kind.split()[-1]]] ^= 4
    file.write_bytes(data)

"""One picture as PNG, to the last bit, with its note."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, PngImagePlugin

from facemorph_core.pictures.provenance import TOOL, Note

__all__ = ["png_chunks_about", "says_who_made_it", "write_png"]

_RELATIVE = 1  # how PNG's chunk sRGB says relative colorimetric


def write_png(picture: Image.Image, path: Path, note: Note | None) -> None:
    """In memory first: Pillow hides why a write failed."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=png_chunks_about(note))
    path.write_bytes(buffer.getvalue())


def png_chunks_about(note: Note | None) -> PngImagePlugin.PngInfo:
    """The chunks that say which colours these are, and what the picture is."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", bytes([_RELATIVE]))
    if note is not None:
        chunks.add_text("Description", note.sentence)
        chunks.add_itxt("XML:com.adobe.xmp", note.xmp.decode())
    return chunks


def says_who_made_it(path: Path) -> bool:
    """Whether it is a PNG with one of our notes."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return TOOL.encode() in str(picture.info.get("xmp", b"")).encode()
    except (OSError, ValueError, SyntaxError):
        return False

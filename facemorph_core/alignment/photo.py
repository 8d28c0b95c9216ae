"""Any photo file -> upright 8-bit RGB, or one clear reason why not.

Decisions:
    | orientation   the EXIF tag is applied (all eight); a damaged EXIF block counts as upright
    | grey, palette, 1-bit, CMYK   converted; colour profiles are not applied
    | 16-bit        scaled from the full range 0..65535; 32-bit integers and floats are refused
    | transparency  composited on white, or kept where it is asked for
    | animations    the first frame
    | truncated     refused, never half a photo
    | large         more than MAX_PIXELS are refused from the header, before anything is decoded
    | formats       those in FORMATS; no others are tried
"""

from __future__ import annotations

import warnings
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from facemorph_core.errors import UnreadablePhoto

__all__ = ["FORMATS", "MAX_PIXELS", "decode_photo", "load_photo", "on_white", "open_photo"]

MAX_PIXELS = 100_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

_WHITE = (255, 255, 255, 255)
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # value of the tag -> what makes the photo upright (EXIF 2.32, 4.6.4 A)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_photo(
    photo: str | Path | Image.Image, *, max_pixels: int = MAX_PIXELS, opacity: bool = False
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, upright, contiguous.

    With ``opacity``, a photo with transparency is (H, W, 4) RGBA.

    Raises:
        UnreadablePhoto: not a file, not a photo, damaged, or more than ``max_pixels``.
    """
    if isinstance(photo, Image.Image):
        return _pixels(photo, "the image", max_pixels, opacity)
    with open_photo(Path(photo)) as stream:
        return decode_photo(stream, photo, max_pixels=max_pixels, opacity=opacity)


def on_white(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photo (H, W, 3 or 4) as it looks on white paper, (H, W, 3)."""
    if photo.shape[2] == 3:
        return photo
    paper = Image.new("RGBA", (photo.shape[1], photo.shape[0]), _WHITE)
    return np.asarray(Image.alpha_composite(paper, Image.fromarray(photo)).convert("RGB"))


def open_photo(path: Path) -> BufferedReader:
    """The file, opened for reading, once it is sure that it is one and not empty."""
    try:
        if path.is_dir():
            raise UnreadablePhoto(path, "is a folder, not a photo")
        if not path.exists():
            raise UnreadablePhoto(path, "there is no such file")
        if not path.is_file():
            raise UnreadablePhoto(path, "is not a regular file")
        if path.stat().st_size == 0:
            raise UnreadablePhoto(path, "the file is empty")
        return path.open("rb")
    except OSError as error:
        raise UnreadablePhoto(path, f"cannot be opened ({error.strerror})") from error


def decode_photo(
    stream: IO[bytes],
    name: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    opacity: bool = False,
) -> NDArray[np.uint8]:
    """As `load_photo`, from an open file; ``name`` is for the messages."""
    try:
        with warnings.catch_warnings():
            # Pillow's own size warning comes below our limit, its refusal (twice that) above it.
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=_formats()) as image:
                return _pixels(image, name, max_pixels, opacity)
    except UnidentifiedImageError as error:
        raise UnreadablePhoto(name, "is not a photo", hint=_format_hint(name)) from error
    except Image.DecompressionBombError as error:
        raise UnreadablePhoto(name, _too_large(max_pixels)) from error
    except UnreadablePhoto:
        raise
    except Exception as error:  # decoders that meet damaged bytes raise whatever they like
        raise UnreadablePhoto(name, f"the file is damaged or cut short ({error})") from error


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow can read; naming another would be an error."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _pixels(
    image: Image.Image, name: str | Path, max_pixels: int, opacity: bool
) -> NDArray[np.uint8]:
    if image.width * image.height > max_pixels:
        raise UnreadablePhoto(name, f"{_too_large(max_pixels)} ({image.width}x{image.height})")
    image.load()
    upright = _UPRIGHT.get(_orientation(image))
    found = _to_rgb(image, name)
    if upright is not None:
        found = found.transpose(upright)
    pixels = np.array(found, dtype=np.uint8, order="C")
    return pixels if opacity else on_white(pixels)


def _to_rgb(image: Image.Image, name: str | Path) -> Image.Image:
    """RGB, or RGBA where something may be transparent."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_deep_grey(image, name).convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _from_deep_grey(image: Image.Image, name: str | Path) -> Image.Image:
    """More than 8 bits of grey; "I" is what some readers make of 16 bits."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise UnreadablePhoto(
            name, "has 32-bit values, whose range is not known", hint="save it with 8 or 16 bits"
        )
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block says nothing; the photo may be fine
        return 1


def _too_large(max_pixels: int) -> str:
    return f"has more than {max_pixels / 1e6:g} megapixels"


def _format_hint(name: str | Path) -> str:
    if str(name).lower().endswith((".heic", ".heif")):
        return "HEIC is not read: export it as JPEG, or set the camera to 'most compatible'"
    return f"formats that are read: {', '.join(FORMATS)}"

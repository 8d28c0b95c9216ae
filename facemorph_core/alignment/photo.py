"""Any photo file -> upright 8-bit RGB, or one clear reason why not.

Decisions:
    | orientation   the EXIF tag is applied (all eight); a damaged EXIF block counts as upright
    | colour        converted to sRGB by the photo's profile (see `alignment.colour`), which grey,
    |               palette, 1-bit and CMYK photos without one are as Pillow converts them
    | 16-bit        scaled from the full range 0..65535; 32-bit integers and floats are refused
    | transparency  composited on white, or kept where it is asked for
    | animations    the first frame
    | truncated     refused, never half a photo
    | large         more than MAX_PIXELS are refused from the header, before anything is decoded,
    |               but for a JPEG of up to MAX_JPEG_PIXELS, which is decoded at half its size
    | formats       those in FORMATS, known by what they begin with; no others are tried
    | HEIC          with pillow-heif, the extra heic
"""

from __future__ import annotations

import warnings
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from facemorph_core.alignment.colour import in_srgb
from facemorph_core.errors import UnreadablePhoto

__all__ = ["FORMATS", "MAX_PIXELS", "decode_photo", "load_photo", "on_white", "open_photo"]

MAX_PIXELS = 100_000_000
MAX_JPEG_PIXELS = 2 * MAX_PIXELS
"""Telephones write 200 megapixels, in JPEG or HEIC."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""In bytes 8 to 12 of a file, after b"ftyp" (ISO/IEC 23008-12)."""

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
            with _opened(stream, name) as image:
                return _pixels(image, name, max_pixels, opacity)
    except UnidentifiedImageError as error:
        hint = f"formats that are read: {', '.join(FORMATS)}"
        raise UnreadablePhoto(name, "is not a photo", hint=hint) from error
    except Image.DecompressionBombError as error:
        raise UnreadablePhoto(name, _too_large(max_pixels)) from error
    except UnreadablePhoto:
        raise
    except Exception as error:  # decoders that meet damaged bytes raise whatever they like
        raise UnreadablePhoto(name, f"the file is damaged or cut short ({error})") from error


def _opened(stream: IO[bytes], name: str | Path) -> Image.Image:
    """The photo, read no further than its header."""
    start = stream.read(64)
    stream.seek(0)
    if _is_heif(start):
        if not _reads_heif():
            raise UnreadablePhoto(
                name,
                "is a HEIC photo, which needs an optional part",
                hint='pip install "facemorph-core[heic]", or export it as JPEG',
            )
        return Image.open(stream, formats=("HEIF",))
    try:
        return Image.open(stream, formats=_formats())
    except Image.DecompressionBombError:
        if not start.startswith(b"\xff\xd8"):
            raise
        stream.seek(0)
        return JpegImagePlugin.JpegImageFile(stream)  # whether it is too large is for us to say


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that can be read here; naming another would be an error."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _is_heif(start: bytes) -> bool:
    """Whether a file begins as HEIC; one that AVIF's readers know, too, is theirs."""
    brands = start[8 : int.from_bytes(start[:4])]
    is_avif = b"avif" in brands or b"avis" in brands
    return start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS and not is_avif


@cache
def _reads_heif() -> bool:
    """Whether Pillow can be taught to read HEIC here, and teach it."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _pixels(
    image: Image.Image, name: str | Path, max_pixels: int, opacity: bool
) -> NDArray[np.uint8]:
    pixels = image.width * image.height
    if image.format == "JPEG" and max_pixels < pixels <= MAX_JPEG_PIXELS:
        image.draft(None, (image.width // 2, image.height // 2))
    if image.width * image.height > max_pixels:
        raise UnreadablePhoto(name, f"{_too_large(max_pixels)} ({image.width}x{image.height})")
    image.load()
    upright = _UPRIGHT.get(_orientation(image))
    found = _to_rgb(image, name)
    if upright is not None:
        found = found.transpose(upright)
    photo = np.array(found, dtype=np.uint8, order="C")
    return photo if opacity else on_white(photo)


def _to_rgb(image: Image.Image, name: str | Path) -> Image.Image:
    """RGB, or RGBA where something may be transparent."""
    profile = image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        return in_srgb(_from_deep_grey(image, name), profile)
    colours = in_srgb(image, profile)
    if image.has_transparency_data:
        colours.putalpha(image.convert("RGBA").getchannel("A"))
    return colours


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

"""Every kind of file that people call a photo becomes upright RGB or one clear reason."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemorph_core.alignment import photo
from facemorph_core.alignment.photo import load_photo
from facemorph_core.errors import UnreadablePhoto
from tests.core.profiles import icc, in_space

RED, GREEN, BLUE, WHITE = (250, 5, 5), (5, 250, 5), (5, 5, 250), (255, 255, 255)


def corners(pixels):
    """Colour names at top-left, top-right, bottom-left."""
    names = {0: "red", 1: "green", 2: "blue"}
    places = [pixels[2, 2], pixels[2, -3], pixels[-3, 2]]
    return [names[int(place.argmax())] for place in places]


def marked() -> Image.Image:
    """Wider than high: red top-left, green top-right, blue bottom-left."""
    image = Image.new("RGB", (60, 40), WHITE)
    for colour, place in ((RED, (0, 0)), (GREEN, (40, 0)), (BLUE, (0, 20))):
        image.paste(Image.new("RGB", (20, 20), colour), place)
    return image


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_every_exif_orientation_comes_out_upright(tmp_path, tag, suffix):
    """How a camera stores: the upright picture, changed by the inverse of what the tag asks."""
    transpose = Image.Transpose
    stored_as = {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_90,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_270,
    }
    image = marked().transpose(stored_as[tag]) if tag > 1 else marked()
    exif = Image.Exif()
    exif[0x0112] = tag
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    pixels = load_photo(tmp_path / f"a.{suffix}")
    assert pixels.shape == (40, 60, 3)
    assert corners(pixels) == ["red", "green", "blue"]
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_a_damaged_exif_block_counts_as_upright(tmp_path):
    marked().save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff junk")
    assert corners(load_photo(tmp_path / "a.jpg")) == ["red", "green", "blue"]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    pixels = load_photo(marked().convert(mode))
    assert pixels.shape == (40, 60, 3)
    assert pixels.dtype == np.uint8
    assert pixels[-3, -3].min() > 240  # white stays white


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    marked().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert corners(load_photo(tmp_path / "a.jpg")) == ["red", "green", "blue"]


def test_sixteen_bit_grey_uses_its_whole_range(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None, :].repeat(4, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels = load_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels[0, :, 0], np.arange(256))
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(load_photo(tmp_path / "a.tif"), pixels)


def test_sixteen_bit_colour_png(tmp_path):
    rows = b"".join(b"\0" + struct.pack(">3H", 65535, 32768, 0) * 2 for _ in range(2))
    (tmp_path / "a.png").write_bytes(png(2, 2, depth=16, colour=2, data=zlib.compress(rows)))
    np.testing.assert_array_equal(load_photo(tmp_path / "a.png")[0, 0], [255, 128, 0])


def test_values_without_a_known_range_are_refused():
    with pytest.raises(UnreadablePhoto, match="32-bit"):
        load_photo(Image.fromarray(np.full((4, 4), 1e6, np.float32)))
    with pytest.raises(UnreadablePhoto, match="32-bit"):
        load_photo(Image.fromarray(np.full((4, 4), 1 << 20, np.int32)))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    pixels = load_photo(image.convert(mode))
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[3, 3].tolist() == [255, 255, 255]


def test_a_transparent_palette_colour_is_white(tmp_path):
    image = marked().quantize(8)
    image.save(tmp_path / "a.png", transparency=image.getpixel((2, 2)))
    assert load_photo(tmp_path / "a.png")[2, 2].tolist() == [255, 255, 255]


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_photo(tmp_path / "a.gif")[4, 4].argmax() == 0


# --- files that are not photos ---------------------------------------------------------------


def png(width, height, *, depth=8, colour=2, data=b""):
    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_photo_cut_short_is_refused(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, format={"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    (tmp_path / f"a.{suffix}").write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)])
    with pytest.raises(UnreadablePhoto, match=r"cut short|not a photo"):
        load_photo(tmp_path / f"a.{suffix}")


def test_random_bytes_behind_a_good_start_are_refused_or_read(tmp_path):
    whole = io.BytesIO()
    marked().save(whole, format="PNG")
    rng = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole.getvalue())
        for place in rng.integers(8, len(data), 6):
            data[place] = rng.integers(0, 256)
        (tmp_path / "a.png").write_bytes(data)
        try:
            assert load_photo(tmp_path / "a.png", max_pixels=10**6).shape[2] == 3
        except UnreadablePhoto as error:
            assert error.reason  # noqa: PT017 - either outcome is fine, a crash is not


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.write_text("dear diary, " * 50), "is not a photo"),
        (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "is not a photo"),
    ],
    ids=["missing", "folder", "empty", "text", "postscript"],
)
def test_what_is_not_a_photo_says_so(tmp_path, make, message):
    make(tmp_path / "a.jpg")
    with pytest.raises(UnreadablePhoto, match=message) as caught:
        load_photo(tmp_path / "a.jpg")
    assert caught.value.photo == str(tmp_path / "a.jpg")


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
def test_a_heic_photo_names_the_part_that_reads_it(tmp_path, monkeypatch, brand):
    """Known by how it begins: telephones' photos are renamed on their way."""
    monkeypatch.setattr(photo, "_reads_heif", lambda: False)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(100))
    with pytest.raises(UnreadablePhoto, match="HEIC") as caught:
        load_photo(tmp_path / "a.jpg")
    assert "facemorph-core[heic]" in caught.value.hint


@pytest.mark.parametrize("tag", [1, 3, 6, 8])
def test_an_avif_is_read_upright_and_in_its_colours(tmp_path, tag):
    transpose = Image.Transpose
    back = {3: transpose.ROTATE_180, 6: transpose.ROTATE_90, 8: transpose.ROTATE_270}
    stored = in_space(marked(), "display-p3")
    stored = stored.transpose(back[tag]) if tag > 1 else stored
    check_what_a_telephone_wrote(stored, tmp_path / "a.avif", tag)


def test_an_avif_that_calls_itself_an_image_of_some_kind_is_no_heic(tmp_path, monkeypatch):
    """As ISO/IEC 23008-12 allows: what it is then stands among the compatible brands."""
    monkeypatch.setattr(photo, "_reads_heif", lambda: False)
    marked().save(tmp_path / "a.avif", quality=95)
    data = (tmp_path / "a.avif").read_bytes()
    assert data[4:12] == b"ftypavif"
    assert b"avif" in data[12 : int.from_bytes(data[:4])]
    (tmp_path / "a.avif").write_bytes(data[:8] + b"mif1" + data[12:])
    assert corners(load_photo(tmp_path / "a.avif")) == ["red", "green", "blue"]


@pytest.mark.parametrize("tag", [1, 6])
def test_a_heic_is_read_in_its_colours_and_turned_no_second_time(tmp_path, tag):
    """Its container says how it is turned, and its reader turns it; the Exif tag says it again."""
    pytest.importorskip("pillow_heif", reason="the extra heic").register_heif_opener()
    check_what_a_telephone_wrote(in_space(marked(), "display-p3"), tmp_path / "a.heic", tag)


def check_what_a_telephone_wrote(stored: Image.Image, path: Path, tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    stored.save(path, exif=exif, icc_profile=icc("display-p3"), quality=95)
    pixels = load_photo(path.rename(path.with_name("renamed.jpg")))
    assert pixels.shape == (40, 60, 3)
    assert corners(pixels) == ["red", "green", "blue"]
    assert np.abs(pixels[5, 5].astype(int) - RED).max() < 25


@pytest.mark.slow
def test_a_telephones_200_megapixels_are_read_at_half_their_size(tmp_path):
    Image.new("L", (16_320, 12_240), 90).save(tmp_path / "a.jpg")
    pixels = load_photo(tmp_path / "a.jpg")
    assert pixels.shape == (6_120, 8_160, 3)
    assert (pixels[::500, ::500] == 90).all()


@pytest.mark.parametrize("side", [14_143, 65_535])
def test_a_larger_jpeg_is_refused_from_its_header(tmp_path, side):
    marked().save(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", side, side)
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(UnreadablePhoto, match="more than 100 megapixels"):
        load_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("side", [10_001, 14_000, 60_000])
def test_a_bomb_is_refused_from_its_header(tmp_path, side):
    """A few bytes that promise up to 3.6 gigapixels: refused before anything is decoded."""
    (tmp_path / "a.png").write_bytes(png(side, side))
    with pytest.raises(UnreadablePhoto, match="more than 100 megapixels"):
        load_photo(tmp_path / "a.png")


def test_the_limit_is_the_callers():
    assert load_photo(marked(), max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(UnreadablePhoto, match="60x40"):
        load_photo(marked(), max_pixels=2399)

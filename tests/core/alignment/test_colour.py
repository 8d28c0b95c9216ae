"""A photo looks as its profile says, and what is made of it says that it is sRGB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from skimage.color import deltaE_ciede2000, rgb2lab

from facemorph_core.alignment.colour import in_srgb, srgb_profile
from facemorph_core.alignment.photo import load_photo
from facemorph_core.pictures.encoders import write_picture, write_webp
from tests.core.faces import GRACE_HOPPER
from tests.core.profiles import SPACES, grey_icc, icc, in_space, linear_srgb

WIDER = sorted(SPACES.keys() - {"srgb-like"})


def away(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Delta E 2000 of each pixel: 1 is just seen."""
    return np.asarray(deltaE_ciede2000(rgb2lab(found), rgb2lab(wanted)))


@pytest.mark.parametrize("space", WIDER)
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("png", {}),
        ("tif", {}),
        ("jpg", {"quality": 97, "subsampling": 0}),
        ("webp", {"lossless": True}),
    ],
)
def test_a_photo_in_a_wider_space_has_the_colours_that_it_has(
    tmp_path: Path, space: str, suffix: str, options: dict[str, Any]
) -> None:
    grace = Image.open(GRACE_HOPPER)
    wanted = np.asarray(grace)
    path = tmp_path / f"grace.{suffix}"
    in_space(grace, space).save(path, icc_profile=icc(space), **options)
    assert np.median(away(np.asarray(Image.open(path).convert("RGB")), wanted)) > 1  # unmanaged
    found = away(load_photo(path), wanted)
    assert found.mean() < 1.5
    assert np.median(found) < 1


@given(
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    opacity=st.integers(0, 255),
    space=st.sampled_from(WIDER),
)
def test_transparency_is_no_colour(colour: tuple[int, int, int], opacity: int, space: str) -> None:
    opaque = Image.new("RGB", (2, 2), colour)
    opaque.info["icc_profile"] = icc(space)
    glassy = Image.new("RGBA", (2, 2), (*colour, opacity))
    glassy.info["icc_profile"] = icc(space)
    found = load_photo(glassy, opacity=True)
    assert (found[..., :3] == load_photo(opaque)).all()
    assert (found[..., 3] == opacity).all()


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_has_the_curve_of_its_profile(mode: str) -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    ramp.info["icc_profile"] = grey_icc(1.0)
    grey = ramp.convert(mode)
    grey.info["icc_profile"] = grey_icc(1.0)
    found = load_photo(grey)
    assert (found == found[..., :1]).all()
    light = linear_srgb(found[0, :, 0])
    assert np.abs(light - np.asarray(grey.convert("L"))[0] / 255).max() < 0.006


def test_ink_is_read_by_its_profile_or_as_before() -> None:
    ink = Image.merge("CMYK", [Image.new("L", (4, 4), value) for value in (10, 200, 90, 30)])
    before = np.asarray(ink.convert("RGB"))
    assert (load_photo(ink) == before).all()
    ink.info["icc_profile"] = icc("adobe-rgb")  # of another kind of picture: it says nothing
    assert (load_photo(ink) == before).all()


@given(st.binary(max_size=600), st.integers(0, 700))
def test_a_damaged_profile_counts_as_none(junk: bytes, place: int) -> None:
    whole = icc("display-p3")
    picture = Image.open(GRACE_HOPPER).crop((200, 200, 210, 210))
    for profile in (junk, whole[:place], whole[:place] + junk + whole[place + len(junk) :]):
        assert in_srgb(picture, profile).size == picture.size
    assert (np.asarray(in_srgb(picture, junk)) == np.asarray(picture)).all()


def test_srgb_itself_changes_nothing() -> None:
    grace = Image.open(GRACE_HOPPER)
    assert (np.asarray(in_srgb(grace, srgb_profile())) == np.asarray(grace)).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_what_is_written_says_that_it_is_srgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_picture(Image.open(GRACE_HOPPER), path, None)
    said = Image.open(path).info
    if suffix == "png":
        assert said["srgb"] == ImageCms.Intent.RELATIVE_COLORIMETRIC
    else:
        assert said["icc_profile"] == srgb_profile()
    first = path.read_bytes()
    write_picture(Image.open(GRACE_HOPPER), path, None)
    assert path.read_bytes() == first


def test_so_does_what_plays(tmp_path: Path) -> None:
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    write_webp(frames, tmp_path / "a.webp", [0.1, 0.1], None)
    assert Image.open(tmp_path / "a.webp").info["icc_profile"] == srgb_profile()

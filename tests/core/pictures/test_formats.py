"""What plays has the frames, the size and the timing of what was written, in every format."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from facemorph_core.pictures.encoders import ENCODERS, write_picture
from facemorph_core.pictures.gif import write_gif
from facemorph_core.pictures.media import write_frames
from facemorph_core.pictures.pace import ticks
from facemorph_core.pictures.palette import Colours
from facemorph_core.pictures.sides import changed
from tests.core.faces import smooth_picture

VIDEOS = (".mp4", ".mov", ".webm")
FPS, HOLD = 15, 0.4


def moving(count: int = 6, height: int = 48, width: int = 66) -> NDArray[np.uint8]:
    """A picture that moves to the left, a few pixels a frame."""
    wide = smooth_picture(height, width + 5 * count)
    return np.stack([wide[:, 5 * n : 5 * n + width] for n in range(count)])


def shown(path: Path) -> tuple[list[NDArray[np.uint8]], list[float]]:
    """The frames that a player shows, and for how many seconds each."""
    if path.suffix in VIDEOS:
        reader = imageio_ffmpeg.read_frames(str(path))
        facts = next(reader)
        w, h = facts["size"]
        frames = [np.frombuffer(data, np.uint8).reshape(h, w, 3) for data in reader]
        return frames, [1 / facts["fps"]] * len(frames)
    frames, seconds = [], []
    with Image.open(path) as image:
        for number in range(image.n_frames):
            image.seek(number)
            image.load()  # before, some formats tell the time of the frame before
            frames.append(np.asarray(image.convert("RGB")))
            seconds.append(image.info["duration"] / 1000)
    return frames, seconds


@pytest.mark.parametrize("suffix", ENCODERS)
def test_frames_size_and_timing_are_those_that_were_written(tmp_path: Path, suffix: str) -> None:
    truth = moving()
    [path] = write_frames(truth, tmp_path / f"m{suffix}", fps=FPS, hold=HOLD, held=(0, 3))
    frames, seconds = shown(path)
    longer = round((HOLD + 1 / FPS) * FPS)  # in videos, frames that stay are repeated
    stays = [longer if number in (0, 3) else 1 for number in range(len(truth))]
    expected = truth.repeat(stays, axis=0) if suffix in VIDEOS else truth
    assert len(frames) == len(expected)
    for frame, own in zip(frames, expected, strict=True):
        assert frame.shape == own.shape
        assert np.abs(frame.astype(int) - own).mean() < (0.01 if suffix == ".apng" else 8)
    assert sum(seconds) == pytest.approx(6 / FPS + 2 * HOLD, abs=0.011)
    if suffix not in VIDEOS:
        for number in (0, 3):
            assert seconds[number] == pytest.approx(HOLD + 1 / FPS, abs=0.011)


@pytest.mark.parametrize("suffix", ENCODERS)
@pytest.mark.parametrize("size", [16, 40, 255])
def test_a_size_is_that_size(tmp_path: Path, suffix: str, size: int) -> None:
    [path] = write_frames(moving(2), tmp_path / f"m{suffix}", size=size)
    height, width = shown(path)[0][0].shape[:2]
    even = size % 2 if suffix == ".mp4" else 0
    assert width == size + even
    assert abs(height - 48 / 66 * size) <= 1.5


@pytest.mark.parametrize("suffix", ENCODERS)
def test_frames_that_do_not_change_are_frames(tmp_path: Path, suffix: str) -> None:
    still = moving(2)[[0, 1, 1, 1]]
    [path] = write_frames(still, tmp_path / f"m{suffix}", hold=0)
    frames, seconds = shown(path)
    assert sum(seconds) == pytest.approx(4 / 15, abs=0.011)
    if suffix not in (".webp", ".avif"):  # they may show one frame three times as long
        assert len(frames) == 4


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=80), st.sampled_from([100, 1000]))
def test_rounded_times_add_up(seconds: list[float], a_second: int) -> None:
    found = ticks(seconds, a_second)
    ends = np.cumsum(found) / a_second
    np.testing.assert_allclose(ends, np.cumsum(seconds), atol=0.51 / a_second + 1e-9)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 3), st.integers(1, 3))
def test_what_changed_lies_in_the_box(left: int, top: int, wide: int, high: int) -> None:
    before = np.zeros((8, 9, 3), np.uint8)
    now = before.copy()
    now[top : top + high, left : left + wide, 1] = 7
    assert changed(before, now) == (left, top, left + wide, top + high)
    assert changed(None, now) == (0, 0, 9, 8)
    assert changed(now, now) == (0, 0, 1, 1)


@pytest.mark.parametrize("suffix", [".tif", ".avif", ".png"])
def test_a_picture_is_what_was_written(tmp_path: Path, suffix: str) -> None:
    own = moving(1)[0]
    path = tmp_path / f"a{suffix}"
    write_picture(Image.fromarray(own), path, None)
    with Image.open(path) as image:
        found = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(found - own).max() <= (12 if suffix == ".avif" else 0)


# --- the colours of a GIF ----------------------------------------------------------------------


def face_like() -> NDArray[np.uint8]:
    """Skin and wall in all their shades, and a thousandth of both a blue eye and red lips."""
    rng = np.random.default_rng(4)
    light = np.linspace(0.35, 1, 256)[:, None, None] * rng.uniform(0.93, 1.07, (256, 256, 1))
    picture = light * np.where(np.arange(256)[:, None] < 160, [225, 170, 140], [120, 115, 105])
    picture[60:68, 60:68] = [70, 110, 190]
    picture[120:128, 60:68] = [190, 40, 60]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def test_what_is_small_and_coloured_keeps_its_colour(tmp_path: Path) -> None:
    own = face_like()
    write_gif([own] * 3, tmp_path / "m.gif", [0.1] * 3, None)
    [first, *_], _ = shown(tmp_path / "m.gif")
    for place in (slice(60, 68), slice(120, 128)):
        means = [rgb2lab(each[place, 60:68] / 255.0).mean(axis=(0, 1)) for each in (own, first)]
        assert deltaE_ciede2000(*means) < 2
    tones = [rgb2lab(each / 255.0).mean(axis=(0, 1)) for each in (own, first)]
    assert deltaE_ciede2000(*tones) < 1  # and skin is skin


def test_what_is_not_there_takes_no_colours() -> None:
    clear = np.zeros((40, 40, 4), np.uint8)
    clear[..., :3] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    clear[:4] = [10, 200, 30, 255]
    colours = Colours(1)
    colours.look(clear)
    palette = np.array(colours.palette().getpalette()).reshape(-1, 3)[:255]
    assert np.abs(palette - [10, 200, 30]).max() <= 2

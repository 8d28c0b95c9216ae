from __future__ import annotations

import errno
import subprocess
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from facemorph_core.disk.output import written_whole
from facemorph_core.errors import OutputError
from facemorph_core.morphing.provenance import MORPH, MorphProvenance
from facemorph_core.pictures.boxes import boxes
from facemorph_core.pictures.ffmpeg import find_ffmpeg
from facemorph_core.pictures.formats import SUFFIXES
from facemorph_core.pictures.media import write_frames
from facemorph_core.pictures.outputs import check_output
from facemorph_core.pictures.sides import fitted
from tests.core.systems import on_posix

Frames = NDArray[np.uint8]
MADE = MorphProvenance("full", 'a "model" & more', "ab" * 32)
ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Five frames of a soft pattern that moves, 33 px a side: an odd number, on purpose."""
    across = np.linspace(0, 2 * np.pi, 33)
    y, x = np.meshgrid(across, across, indexing="ij")
    waves = [np.stack([np.sin(x + t), np.cos(y - t), np.sin(x * y / 3)], -1) for t in range(5)]
    return np.rint(127.5 + 120 * np.stack(waves)).astype(np.uint8)


def resized(frames: Frames, size: int) -> Frames:
    """Each with ``size`` pixels on the longer side."""
    return np.stack([fitted(frame, size) for frame in frames])


def frame_count(image: Image.Image) -> int:
    return sum(1 for _ in ImageSequence.Iterator(image))


def decoded(path: Path) -> tuple[dict[str, Any], list[Frames]]:
    """What a player sees: ffmpeg's own account of the file, and its frames."""
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    w, h = facts["size"]
    return facts, [np.frombuffer(data, np.uint8).reshape(h, w, 3) for data in reader]


def with_opacity(path: Path) -> list[Frames]:
    """The frames of a video with its alpha: VP9's is read by its own library's decoder alone."""
    codec = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgba", bpp=4, input_params=codec)
    w, h = next(reader)["size"]
    return [np.frombuffer(data, np.uint8).reshape(h, w, 4) for data in reader]


def test_a_video_plays_in_browsers(frames: Frames, tmp_path: Path) -> None:
    [path] = write_frames(frames, tmp_path / "m.mp4", fps=10, hold=0.3, size=65, provenance=MADE)
    facts, shown = decoded(path)
    assert (facts["codec"], facts["pix_fmt"].partition("(")[0]) == ("h264", "yuv420p")
    assert facts["size"] == (66, 66)
    assert facts["fps"] == 10
    assert len(shown) == len(frames) + 2 * 3
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # fast start
    truth = resized(frames, 65).astype(int)
    for frame, expected in zip(shown[3:-3], truth, strict=True):
        assert np.abs(frame[:65, :65] - expected).mean() < 6  # half the colour resolution


def test_a_gif_holds_all_frames_in_256_colours(frames: Frames, tmp_path: Path) -> None:
    [path] = write_frames(frames, tmp_path / "m.gif", fps=20, hold=0.5, size=256)
    with Image.open(path) as image:
        assert (frame_count(image), image.size, image.info["loop"]) == (5, (256, 256), 0)
        durations = []
        for index, expected in enumerate(resized(frames, 256)):
            image.seek(index)
            durations.append(image.info["duration"])
            shown = np.asarray(image.convert("RGB"))
            means = resized(np.stack([shown, expected]), 33).astype(int)  # dithering keeps these
            assert np.abs(means[0] - means[1]).mean() < 5
    assert durations == [550, 50, 50, 50, 550]


def test_a_webp_holds_all_frames(frames: Frames, tmp_path: Path) -> None:
    [path] = write_frames(frames, tmp_path / "m.webp", size=64)
    with Image.open(path) as image:
        assert (frame_count(image), image.size) == (5, (64, 64))


def test_a_contact_sheet_shows_every_frame_and_both_photos(frames: Frames, tmp_path: Path) -> None:
    white = np.full((50, 50, 3), 255, np.uint8)
    path = tmp_path / "m.png"
    write_frames(frames, path, ends=(white, white // 2), alphas=ALPHAS)
    with Image.open(path) as image:
        sheet = np.asarray(image)
    assert sheet.shape == (4 + 33 + 16 + 4, 4 + 7 * 37, 3)
    for index, frame in enumerate(frames, start=1):
        left = 4 + index * 37
        np.testing.assert_array_equal(sheet[4:37, left : left + 33], frame)


@pytest.mark.parametrize(
    ("out", "first"), [("new/", "new/frame-000.png"), ("a-%02d.png", "a-00.png"), ("", None)]
)
def test_a_folder_or_a_pattern_gets_one_picture_a_frame(
    frames: Frames, tmp_path: Path, out: str, first: str | None
) -> None:
    paths = write_frames(frames, f"{tmp_path}/{out}")
    assert [path.exists() for path in paths] == [True] * 5
    assert paths[0] == tmp_path / (first or "frame-000.png")
    np.testing.assert_array_equal(np.asarray(Image.open(paths[3])), frames[3])
    with pytest.raises(OutputError, match="exists already"):
        write_frames(frames, f"{tmp_path}/{out}")
    write_frames(frames, f"{tmp_path}/{out}", force=True)


# --- what they say of themselves ---------------------------------------------------------------


def within(data: bytes, *names: bytes) -> bytes | None:
    """The data of a box within boxes."""
    if not names:
        return data
    for name, start, stop in boxes(data):
        found = within(data[start:stop], *names[1:]) if name == names[0] else None
        if found is not None:
            return found
    return None


def packet_in(path: Path) -> bytes | None:
    """The XMP packet, from where the format's own specification puts it."""
    data = path.read_bytes()
    if path.suffix == ".webm":  # a tag's text, found as any reader of packets finds it
        start, end = data.find(b"<?xpacket begin"), data.find(b'<?xpacket end="r"?>')
        return data[start : end + 19] if start > 0 else None
    if path.suffix == ".mov":
        return within(data, b"moov", b"udta", b"XMP_")
    if path.suffix == ".mp4":
        at = 0
        while at < len(data):  # the boxes of the file, one after the other
            length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
            if kind == b"uuid" and data[at + 8 : at + 12] == b"\xbe\x7a\xcf\xcb":
                return data[at + 24 : at + length]
            at += length
        return None
    with Image.open(path) as image:
        if path.suffix == ".gif":
            block = data.find(b"XMP DataXMP")
            return data[block + 11 : data.index(b"\x01\xff\xfe", block)] if block > 0 else None
        found = image.info.get("xmp")
        return found.encode() if isinstance(found, str) else found


@pytest.mark.parametrize("name", [*(f"m{suffix}" for suffix in SUFFIXES), "m-%d.png"])
def test_a_file_says_that_it_is_synthetic_and_how(
    frames: Frames, tmp_path: Path, name: str
) -> None:
    path = write_frames(frames, tmp_path / name, alphas=ALPHAS, provenance=MADE)[-1]
    packet = packet_in(path)
    assert packet is not None
    [facts] = ElementTree.fromstring(packet).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    iptc = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    assert facts.attrib[iptc].endswith("/compositeWithTrainedAlgorithmicMedia")
    own = {
        key: facts.attrib[f"{{{MORPH.namespace}}}{key}"]
        for key in ("Model", "ModelSHA256", "Alpha")
    }
    listed = "1" if "%d" in name else "0 0.25 0.5 0.75 1"
    assert own == {"Model": MADE.model, "ModelSHA256": MADE.model_sha256, "Alpha": listed}
    assert MORPH.sentence.encode() in path.read_bytes().replace(packet, b"")  # for people, too


@pytest.mark.parametrize("name", [f"m{suffix}" for suffix in SUFFIXES])
def test_without_provenance_nothing_is_said(frames: Frames, tmp_path: Path, name: str) -> None:
    [path] = write_frames(frames, tmp_path / name)
    assert packet_in(path) is None
    assert b"facemorph" not in path.read_bytes()


@pytest.mark.parametrize("name", [f"m{suffix}" for suffix in SUFFIXES])
def test_the_same_frames_are_the_same_file(frames: Frames, tmp_path: Path, name: str) -> None:
    [path] = write_frames(frames, tmp_path / name, provenance=MADE)
    first = path.read_bytes()
    time.sleep(1.1)  # some formats know the second that they were made in
    write_frames(frames, path, provenance=MADE, force=True)
    assert path.read_bytes() == first


def test_a_picture_of_several_modes_is_the_work_of_a_model() -> None:
    made = MorphProvenance("landmark", "starter", "0" * 64)
    assert b"/compositeCapture" in made.note().xmp
    shown = made.note(modes=("full", "landmark")).xmp
    assert b"compositeWithTrainedAlgorithmicMedia" in shown
    assert b'morph:Mode="full landmark"' in shown


# --- shapes, transparency, sizes ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_may_be_wide_and_partly_transparent(
    frames: Frames, tmp_path: Path, suffix: str
) -> None:
    opacity = np.full((*frames.shape[:3], 1), 255, np.uint8)
    opacity[:, :10] = 0
    clear = np.concatenate([frames, opacity], axis=-1)[:, :, :21]
    [path] = write_frames(clear, tmp_path / f"m{suffix}", size=33)
    if suffix == ".mp4":
        _, shown = decoded(path)
        assert shown[0].shape == (34, 22, 3)
        assert shown[0][:8, :20].mean() > 250  # on white
        return
    if suffix in (".mov", ".webm"):
        shown = with_opacity(path)
        assert {frame.shape for frame in shown} == {(33, 21, 4)}
        assert all((f[:9, :, 3] < 8).all() and (f[11:, :, 3] > 247).all() for f in shown)
        assert np.abs(shown[0][12:, :, :3].astype(int) - clear[0, 12:, :, :3]).mean() < 10
        return
    with Image.open(path) as image:
        assert suffix == ".png" or image.size == (21, 33)
        image.seek(getattr(image, "n_frames", 1) - 1)
        seen = np.asarray(image.convert("RGBA"))
    if suffix != ".png":
        assert (seen[:10, :, 3] == 0).all()
        assert (seen[10:, :, 3] == 255).all()


def test_a_gif_shrinks_until_it_is_small_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 100, 150, 3), dtype=np.uint8)
    monkeypatch.setattr("facemorph_core.pictures.gif.GIF_MEGABYTES", 0.03)
    [path] = write_frames(noise, tmp_path / "m.gif", size=150)
    assert 15_000 < path.stat().st_size <= 30_000
    with Image.open(path) as image:
        assert image.width / image.height == pytest.approx(1.5, abs=0.05)
        assert frame_count(image) == 4


# --- what goes wrong ---------------------------------------------------------------------------


def test_an_unknown_suffix_lists_the_known_ones(frames: Frames, tmp_path: Path) -> None:
    for name in ("m.avi", "m"):
        with pytest.raises(OutputError, match=", ".join(SUFFIXES)):
            write_frames(frames, tmp_path / name)


def test_nothing_is_overwritten_unasked(frames: Frames, tmp_path: Path) -> None:
    path = tmp_path / "m.gif"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"m\.gif exists already") as info:
        write_frames(frames, path)
    assert "--force" in str(info.value.hint)
    assert path.read_bytes() == b"mine"
    write_frames(frames, path, force=True)
    assert path.read_bytes() != b"mine"


def test_a_folder_that_is_not_there_is_named_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere does not exist") as info:
        check_output(tmp_path / "nowhere/m.gif")
    assert str(info.value.hint).startswith("mkdir -p")
    check_output(f"{tmp_path}/nowhere/frames/", count=3)  # a folder of frames is made


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing_and_says_so(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    find_ffmpeg("libx264")  # it looks for ffmpeg once, by starting it
    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(subprocess, "Popen", full)
    monkeypatch.setattr("facemorph_core.pictures.apng._chunk", full)  # a film that is not held
    with pytest.raises(OutputError, match="the disk is full"):
        write_frames(frames, tmp_path / f"m{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_without_ffmpeg_it_says_what_else_can_be_written(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    monkeypatch.setattr("imageio_ffmpeg._utils._get_ffmpeg_exe", lambda: None)
    with pytest.raises(OutputError, match="no ffmpeg to write a video") as refusal:
        write_frames(frames, tmp_path / "m.mp4")
    assert ".gif" in str(refusal.value.hint)
    assert list(tmp_path.iterdir()) == []


@on_posix
def test_a_video_that_ffmpeg_refuses_is_an_error_with_its_reason(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "ffmpeg"
    real = imageio_ffmpeg.get_ffmpeg_exe()
    lists = f'#!/bin/sh\ncase "$*" in *-encoders*) exec {real} "$@";; esac\n'
    script.write_text(f"{lists}echo something is wrong >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(script))
    with pytest.raises(OutputError, match="could not write the video: something is wrong"):
        write_frames(frames, tmp_path / "m.mp4")
    script.write_text(f"{lists}echo 'write: No space left on device' >&2\nexit 1\n")
    with pytest.raises(OutputError, match="the disk is full"):
        write_frames(frames, tmp_path / "m.mp4")
    script.write_text(f"{lists}kill -9 $$\n")
    with pytest.raises(OutputError, match="ended by signal 9"):
        write_frames(frames, tmp_path / "m.mov")
    assert list(tmp_path.iterdir()) == [script]


def test_an_interrupted_write_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "m.gif"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with written_whole(path, force=True) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_frame_is_enough(frames: Frames, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        [path] = write_frames(frames[:1], tmp_path / f"one{suffix}", size=32)
        assert path.stat().st_size > 100

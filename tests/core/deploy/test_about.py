"""What lies beside exported graphs is enough for somebody who has nothing else of this program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from facemorph_core.alignment import align_photo
from facemorph_core.alignment.landmarks import DlibDetector
from facemorph_core.bundle import Bundle, open_bundle
from facemorph_core.bundle.find import find_model
from facemorph_core.deploy.about import ABOUT, FRAME, metadata
from facemorph_core.deploy.export import export
from facemorph_core.errors import OutputError
from tests.core.faces import astronaut


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(find_model(None))


@pytest.fixture(scope="module")
def folder(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export")
    export(bundle, out)
    return out


@pytest.fixture(scope="module")
def frame(folder: Path) -> dict[str, Any]:
    return {
        name: np.array(value) for name, value in json.loads((folder / FRAME).read_text()).items()
    }


def fitted(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The page's similarity by plain least squares."""
    x, y = source.T
    ones, zeros = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)])
    a, b, tx, ty = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


def test_by_the_page_alone_a_stranger_aligns_a_face_and_codes_its_shape(
    bundle: Bundle, frame: dict[str, Any]
) -> None:
    landmarks = DlibDetector().detect(astronaut())[0].landmarks
    to_frame = fitted(landmarks, frame["mean_shape"])
    own = align_photo(astronaut())
    np.testing.assert_allclose(to_frame, own.to_frame, atol=1e-3)
    inside = landmarks @ to_frame[:, :2].T + to_frame[:, 2]
    centred = inside.ravel() - frame["shape_mean"]
    shape = np.clip(centred @ frame["shape_components"].T / frame["shape_scales"], -4, 4)
    code = bundle.encode(own.pixels[None], own.landmarks[None])[0]
    assert len(code) - len(shape) == 104
    np.testing.assert_allclose(code[: len(shape)], shape, atol=2e-3)
    side = int(frame["size"])
    picture = cv2.warpAffine(astronaut(), to_frame, (side, side), flags=cv2.INTER_AREA)
    assert np.abs(picture.astype(float) - own.pixels).mean() < 3


def test_the_graphs_do_what_the_page_says_of_their_ends(folder: Path, bundle: Bundle) -> None:
    """Ranges and layout: red in plane 0, -1 black and 1 white, codes as long as stated."""
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / f"{half}.onnx") for half in ("encoder", "decoder")
    )
    textures = bundle.reference.pixels
    images = np.moveaxis(textures.astype(np.float32) / 127.5 - 1, -1, 1)
    (code,) = encoder.run(None, {"images": images})
    assert code.shape == (len(textures), 104)
    (drawn,) = decoder.run(None, {"code": code})
    levels = np.clip((np.moveaxis(drawn, 1, -1) + 1) * 127.5, 0, 255)
    away = np.abs(levels - textures).mean()
    assert away < 40
    assert away < np.abs(levels[..., ::-1] - textures).mean()  # not BGR


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_a_graph_that_travels_alone_says_what_it_is(
    folder: Path, bundle: Bundle, half: str
) -> None:
    model = onnx.load_model(folder / f"{half}.onnx")
    said = {each.key: each.value for each in model.metadata_props}
    assert said == metadata(bundle)
    assert said["facemorph.bundle_sha256"] == bundle.digest
    assert "[-1, 1]" in said["facemorph.images"]
    assert json.loads(said["facemorph.framing"])["eye_distance"] == 36
    assert model.producer_name == "facemorph-core"
    runtime = onnxruntime.InferenceSession(folder / f"{half}.onnx")
    assert runtime.get_modelmeta().custom_metadata_map == said


def test_the_page_states_the_lengths(folder: Path) -> None:
    page = (folder / ABOUT).read_text(encoding="utf-8")
    for said in ("(n, 104)", "has 128 numbers", "first 24", "RGB", "mean shape"):
        assert said in page
    assert "{" not in page


def test_what_lies_there_is_not_replaced_unasked(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / ABOUT).write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        export(bundle, tmp_path)
    assert (tmp_path / ABOUT).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1  # all or nothing
    export(bundle, tmp_path, force=True)
    assert (tmp_path / ABOUT).read_text() != "mine"

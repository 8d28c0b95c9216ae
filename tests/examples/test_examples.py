"""Each example runs as its first lines say, and makes what they promise."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from facemorph_core.alignment import align_photo
from facemorph_core.bundle import open_bundle
from facemorph_core.metrics import psnr
from tests.core.faces import GRACE_HOPPER, astronaut, orl_photo

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 60  # lines that are not empty


def run(folder: Path, *command: str | Path) -> str:
    """What Python says of ``command``, run in ``folder`` as by somebody who installed us."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(name: str) -> Path:
    return ROOT / "examples" / name


def decibels(said: str) -> list[float]:
    return [float(number) for number in re.findall(r"PSNR (\S+) dB", said)]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_one_page_and_begins_with_how_to_run_it(file: Path) -> None:
    lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
    assert len(lines) <= LONGEST
    assert lines[0].startswith('"""')
    assert f"    python examples/{file.name}" in "\n".join(lines)


@pytest.mark.slow
def test_federated_averaging_learns_to_draw_people_who_are_at_no_client(tmp_path: Path) -> None:
    said = run(tmp_path, example("fedavg_in_one_file.py"), "--rounds", "2", "--out", "faces.png")
    scores = decibels(said)
    assert len(scores) == 3
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 1
    with Image.open(tmp_path / "faces.png") as picture:
        real, drawn = np.asarray(picture)[:128], np.asarray(picture)[130:]
    assert psnr(real, drawn) == pytest.approx(scores[-1], abs=2)  # eight of the forty faces


def test_the_mean_of_the_federation_weighs_each_client_by_its_photos() -> None:
    mean = runpy.run_path(str(example("fedavg_in_one_file.py")))["mean"]
    updates = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([5.0, 10.0])}]
    torch.testing.assert_close(mean(updates, [30, 10]), {"w": torch.tensor([2.0, 4.0])})
    torch.testing.assert_close(mean(updates[:1], [7]), updates[0])


@pytest.mark.slow
def test_a_model_of_ones_own_becomes_a_bundle_that_the_morph_tool_takes(tmp_path: Path) -> None:
    said = run(tmp_path, example("own_model.py"), "--epochs", "2", "--out", "own.facemorph")
    first, last = decibels(said)
    assert 14 < first < last
    bundle = open_bundle(tmp_path / "own.facemorph")
    assert bundle.manifest.name == "own"
    assert bundle.manifest.metrics["psnr"] == pytest.approx(last, abs=0.01)
    photos = [orl_photo(1, 1), orl_photo(2, 1)]
    drawn = ["--model", "own.facemorph", "--mode", "latent", "--steps", "3", "-o", "own.png"]
    run(tmp_path, "-m", "facemorph_core", "morph", *photos, *drawn)
    assert (tmp_path / "own.png").is_file()


def test_the_edge_term_sees_edges_and_no_brightness() -> None:
    edges = runpy.run_path(str(example("own_model.py")))["edges"]
    real = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(edges(real + 0.5, real), torch.zeros(2), rtol=0, atol=1e-6)
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    torch.testing.assert_close(edges(ramp, 0 * ramp), torch.tensor([0.5]))  # 1 across, 0 down


@pytest.mark.slow
def test_a_morph_in_python_starts_and_ends_at_the_photos_without_torch(tmp_path: Path) -> None:
    script = f"""import runpy, sys
sys.argv = ["morph_in_python.py", "--out", "morphs"]
runpy.run_path({str(example("morph_in_python.py"))!r}, run_name="__main__")
print([name for name in ("torch", "flwr", "grpc") if name in sys.modules])"""
    said = run(tmp_path, "-c", script)
    assert said.splitlines()[-1] == "[]"
    with Image.open(tmp_path / "morphs" / "morph.gif") as film:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    assert len(frames) == 11
    pictures = {
        name: np.asarray(Image.open(tmp_path / "morphs" / f"{name}.png"))
        for name in ("average", "at-0.3")
    }
    side = frames[0].shape[0]
    ends = [align_photo(photo, size=side).pixels for photo in (astronaut(), GRACE_HOPPER)]
    truths = {0: ends[0], 3: pictures["at-0.3"], 5: pictures["average"], 10: ends[1]}
    for number, truth in truths.items():
        assert psnr(truth, frames[number]) > 30, number  # a GIF has 256 colours
        assert psnr(truth, frames[10 - number if number != 5 else 0]) < 20, number

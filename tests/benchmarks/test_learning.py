"""The learning curve: a law that the values follow is found and continued."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.learning import PowerLaw, continued, fit_power_law, learning_curve
from facemorph_core.errors import ConfigError

IMAGES = np.arange(1, 13) * 16_000.0


@given(st.floats(15, 30), st.floats(0.5, 5), st.floats(0.2, 2.5))
def test_a_power_law_is_found_again(limit, first, exponent):
    law = PowerLaw(limit, first * IMAGES[0] ** exponent, exponent)
    found = fit_power_law(IMAGES, law.at(IMAGES))
    np.testing.assert_allclose(found.at(IMAGES), law.at(IMAGES), atol=0.02)
    assert found.at(np.array([4 * IMAGES[-1]]))[0] == pytest.approx(
        law.at(np.array([4 * IMAGES[-1]]))[0], abs=0.1
    )


def test_the_interval_of_what_comes_holds_it_and_widens_with_the_noise():
    law = PowerLaw(24.0, 4 * IMAGES[0], 1.0)
    rng = np.random.default_rng(0)
    ahead = np.array([2 * IMAGES[-1]])
    widths = []
    for noise in (0.01, 0.1):
        (found,) = continued(IMAGES, law.at(IMAGES) + rng.normal(0, noise, 12), ahead)
        assert found.low - noise < law.at(ahead)[0] < found.high + noise
        widths.append(found.high - found.low)
    assert widths[0] < widths[1]


def run_of(folder, rounds):
    folder.mkdir()
    lines = [{"round": 0, "server": {"psnr": 11.0, "ssim": 0.1}}]
    for number, psnr in enumerate(rounds, start=1):
        lines.append(
            {
                "round": number,
                "merged": psnr is not None,
                "used": ["a", "b"],
                "examples": 50,
                "training": {"images": 30.0, "loss": 1 / number},
                "server": {"psnr": psnr, "ssim": 0.5},
            }
        )
    (folder / "config.yaml").write_text("name: run\nfederation: {local_epochs: 2}\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_curve_counts_the_images_of_all_sites(tmp_path):
    run = run_of(tmp_path / "run", [18.0, None, 20.0, 20.5, 20.7, 20.8, 20.9])
    curve = learning_curve(run)
    np.testing.assert_array_equal(curve.images, np.arange(1, 7) * 100.0)
    np.testing.assert_array_equal(curve.psnr, [18.0, 20.0, 20.5, 20.7, 20.8, 20.9])
    drawn = tmp_path / "curve.svg"
    done = CliRunner().invoke(app, ["learning", str(run), "--chart", str(drawn)])
    assert "| 600 | 0.1429 | 20.90 | 0.500 |" in done.stdout
    assert "With 4 times the images" in done.stdout
    assert ElementTree.parse(drawn).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_too_short_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="2 evaluated rounds; 6 are needed"):
        learning_curve(run_of(tmp_path / "run", [18.0, 19.0]))
    with pytest.raises(ConfigError, match="0 evaluated rounds"):
        learning_curve(run_of(tmp_path / "begun", []))
    with pytest.raises(ConfigError, match="nothing"):
        learning_curve(tmp_path / "nothing")

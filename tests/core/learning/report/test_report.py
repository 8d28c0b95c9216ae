from __future__ import annotations

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from facemorph_core.config import RunConfig, dump_run_config
from facemorph_core.disk.records import append_metrics
from facemorph_core.learning.report import write_run_report
from facemorph_core.pictures.chart import Line, line_chart

SVG = "{http://www.w3.org/2000/svg}"
PRIVACY = {"noise_multiplier": 1.0, "delta": 1e-5, "max_epsilon": 4.0}


class Links(HTMLParser):
    """Everything that a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in {"src", "href"} and value]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def run(tmp_path):
    def make(**config):
        text = dump_run_config(RunConfig(name="<b>bold</b>"[3:7], **config))
        (tmp_path / "config.yaml").write_text(text)
        (tmp_path / "samples").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "samples/round-0001.png")
        append_metrics(tmp_path, {"round": 0, "server": {"faces": 4.0, "psnr": 10.0}})
        return tmp_path

    return make


def entry(number, **values):
    plain = {
        "round": number,
        "merged": True,
        "used": ["clinic-a"],
        "set_aside": [],
        "examples": 8,
        "training": {"loss": 1.0 / number},
        "sites": {},
        "server": {"faces": 4.0, "psnr": 10.0 + number},
        "bytes_up": 5_000_000,
        "seconds": 2.0,
    }
    return plain | values


def read(run):
    page = Links()
    page.feed(write_run_report(run).read_text())
    return page, " ".join(page.words)


def test_a_page_opens_without_a_network(run):
    path = run()
    append_metrics(path, entry(1))
    page, _ = read(path)
    assert page.loads
    assert all(link.startswith("data:") for link in page.loads)


def test_a_page_tells_what_left_the_sites_and_how_good_the_model_is(run):
    path = run()
    append_metrics(path, entry(1))
    append_metrics(path, entry(2))
    _, words = read(path)
    assert "10.0 MB of weights" in words
    assert "10 before, 12 dB after" in words
    assert "Trained without differential privacy" in words


def test_text_of_a_site_cannot_become_markup(run):
    path = run()
    evil = "<script>alert(1)</script>"
    append_metrics(path, entry(1, used=[evil], set_aside=[{"site": evil, "reason": evil}]))
    text = write_run_report(path).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_epsilon_never_stands_alone(run):
    path = run(privacy=PRIVACY)
    append_metrics(path, entry(1, training={"epsilon": 1.5, "delta": 1e-5}))
    append_metrics(path, entry(2, training={"epsilon": 2.5, "delta": 1e-5}))
    _, words = read(path)
    assert (
        "epsilon 2.50 at delta 1e-05; at most 4.00 at delta 1e-05 was allowed. Composed over all"
        in words
    )
    assert "The unit is one photo" in words


def test_a_run_without_a_round_still_has_a_page(run):
    _, words = read(run())
    assert "0 merged of 0 done" in words


def test_a_page_survives_a_partition_and_a_torn_line(run):
    path = run(data={"partition": {"kind": "dirichlet", "attribute": "Male"}})
    append_metrics(path, entry(1))
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"round": 2, ')
    site = {"name": "site-0", "photos": 3, "people": 2, "train": 2, "val": 1}
    table = [site | {"attributes": {"Male": 0.5}}]
    (path / "partition.json").write_text(json.dumps(table))
    assert "50 %" in read(path)[1]


def test_a_chart_stays_inside_its_frame():
    svg = line_chart("a", [Line("x", [(0, 5.0), (9, 5.0)])], x_label="round")
    assert "nan" not in svg
    assert svg.count("<polyline") == 1
    assert line_chart("a", [Line("x", [])], x_label="round") == ""


def test_each_line_of_a_chart_is_named_inside_it_and_drawn_in_its_own_way():
    lines = [Line(f"the line of number {n}", [(0, 1.0), (9, 5.0 + n)]) for n in range(14)]
    svg = ElementTree.fromstring(line_chart("a", lines, x_label="round", unit=" dB", lowest=4))
    names = {text.text: float(text.attrib["y"]) for text in svg.iter(f"{SVG}text")}
    height = float(svg.attrib["viewBox"].split()[-1])
    assert all(0 < names[f"the line of number {n} {5 + n} dB"] < height for n in range(14))
    strokes = [
        (curve.attrib["stroke"], curve.attrib["stroke-dasharray"])
        for curve in svg.iter(f"{SVG}polyline")
    ]
    assert len(set(strokes)) == 14
    assert all(len(curve.attrib["points"].split()) == 1 for curve in svg.iter(f"{SVG}polyline"))


def test_a_morph_stands_beside_that_of_the_model_before(run):
    path = run()
    append_metrics(path, entry(1))
    Image.new("RGB", (8, 8), "white").save(path / "morph.png")
    alone, words = read(path)
    assert "started from" not in words
    Image.new("RGB", (8, 8), "grey").save(path / "morph-before.png")
    both, words = read(path)
    assert "The same morph by the model that the sites started from." in words
    assert len(set(both.loads) - set(alone.loads)) == 1

"""`make demo`: the whole way on one machine, from photos to a morph, with a summary at the end.

Four sites go on from the starter model without sharing a photo. Their model is published to a model
hub, the morph tool fetches it from there, checks it, and morphs two people who were at no site; the
starter morphs them too, for comparison.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from facemorph_core.config import load_run_config
from facemorph_core.disk.records import read_metrics
from facemorph_core.errors import FederationError
from facemorph_core.learning.report import write_run_report
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.shard import Shard
from facemorph_core.shards.sources import SourcePhoto, orl
from server.hub.catalogue import publish
from simulations.bundling import APP
from simulations.family import family
from simulations.live import run_live

CONFIG = APP / "configs" / "demo.yaml"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo made."""

    run: Path
    model: str
    """Where the morph tool fetched the model from."""
    people: tuple[str, str]
    seconds: float


def run_demo(root: Path, *, overrides: list[str] | None = None) -> Outcome:
    """Train, publish, fetch, morph, report; what is there already is not done again."""
    console = Console(stderr=True)
    began = time.monotonic()
    run = run_live(CONFIG, overrides or [], root=root, console=console)
    config = load_run_config(run / "config.yaml")
    first, second = two_strangers(shard_for(config.data, seed=config.seed))
    entry = publish(run / "model.facemorph", root / "hub", config.name)
    with serving(root / "hub") as hub:
        model = f"{hub}/{entry.name}@latest"
        morph(first.path, second.path, model=model, out=run / "morph.gif")
    morph(first.path, second.path, model=config.start, out=run / "morph-before.gif")
    write_run_report(run)
    outcome = Outcome(run, model, (first.person, second.person), time.monotonic() - began)
    console.print(summary(outcome))
    return outcome


def two_strangers(shard: Shard) -> tuple[SourcePhoto, SourcePhoto]:
    """The first photo of each of two people who are at no site."""
    strangers = sorted({shard.people[row] for row in shard.rows("val").tolist()})
    photos = {photo.person: photo for photo in reversed(orl())}
    return photos[strangers[0]], photos[strangers[-1]]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A model hub over ``folder`` on loopback, as a process of its own; its URL."""
    with family() as kin:
        hub = kin.start(
            [
                *(sys.executable, "-m", "server", "hub", str(folder.resolve())),
                *("--address", "127.0.0.1:0", "--insecure-loopback"),
            ],
            cwd=APP,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert hub.stdout is not None
        with hub.stdout as said:
            line = said.readline()  # comes once it listens, or is empty if it ended
            if not line.startswith("listening on "):
                raise FederationError(
                    "the model hub did not start",
                    hint=f"python -m server hub {folder} --insecure-loopback",
                )
            yield line.removeprefix("listening on ").strip()


def morph(first: Path, second: Path, *, model: str, out: Path) -> None:
    """The command that a person would type; it fetches the model and verifies it.

    Beside the morph comes a picture of all modes: that without the photos' detail shows the model.
    """
    command = [
        *(sys.executable, "-m", "facemorph_core", "morph", str(first), str(second)),
        *("--model", model, "--force", "-o", str(out)),
        *("--strip", str(out.with_suffix(".png"))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FederationError(f"the morph failed: {done.stderr.strip()}")


def summary(outcome: Outcome) -> Table:
    """What was made, where, how good it is, and what left the sites."""
    rounds = read_metrics(outcome.run)
    scored = [entry["server"] for entry in rounds if entry["server"]]
    first, last = scored[0], scored[-1]
    sites = json.loads((outcome.run / "partition.json").read_text(encoding="utf-8"))
    sent = sum(entry.get("bytes_up", 0) for entry in rounds)
    table = Table(title="four sites, one model, no photo shared", show_header=False, box=None)
    rows: list[tuple[str, Any]] = [
        ("trained", f"{len(rounds) - 1} rounds at {len(sites)} sites with {_people(sites)} people"),
        (
            "unseen people",
            f"PSNR {last['psnr']:.2f} dB (before {first['psnr']:.2f}), "
            f"SSIM {last['ssim']:.3f} ({first['ssim']:.3f}), {last['faces']:.0f} photos",
        ),
        (
            "left the sites",
            f"{sent / 1e6:.0f} MB of weights and {len(rounds) - 1} lines of figures",
        ),
        ("model", f"{outcome.run / 'model.facemorph'}, fetched from {outcome.model}"),
        ("morph", f"{outcome.run / 'morph.gif'} ({' to '.join(outcome.people)})"),
        ("all modes", f"{outcome.run / 'morph.png'}"),
        ("before", f"{outcome.run / 'morph-before.png'}, by the model that the sites started from"),
        ("look at", str(outcome.run / "report.html")),
        ("took", f"{outcome.seconds:.0f} s"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def _people(sites: list[dict[str, Any]]) -> str:
    counts = sorted({site["people"] for site in sites})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

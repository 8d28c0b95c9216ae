"""Train a model in one place: the baseline of everything federated."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from facemorph_core.errors import MissingExtra
from facemorph_core.machine.printable import tell


def train(
    config_file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML run config.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="RUN", help="Run directory. [default: runs/NAME-central]"
        ),
    ] = None,
) -> None:
    """Train a model in one place: the baseline of everything federated.

    Interrupted training goes on where it stopped when the same command is given again. Faces
    come from the config's data section; federation settings are ignored.

    \b
    Examples:
      facemorph-core train configs/celeba_recipe.yaml --set data.path=celeba/
      facemorph-core train configs/demo.yaml --set training.epochs=20 --out runs/try
    """  # noqa: D301 - \b is click's
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("train", needed_for="facemorph-core train")
    from facemorph_core.config.load import load_run_config
    from facemorph_core.learning.training.central import train_centrally
    from facemorph_core.learning.training.central_run import CentralRun, choose_run
    from facemorph_core.shards.cache import shard_for

    config = load_run_config(config_file, overrides or ())
    path = out if out is not None else choose_run(Path("runs"), config)
    with CentralRun.held(path, config) as run, _bars() as show:
        shard = shard_for(config.data, seed=config.seed, progress=show.preparing)
        train_centrally(config, shard, run, on_step=show.step, on_epoch=show.epoch)
        best = run.state
    tell(str(path))
    if best.best_psnr is not None:
        tell(f"best: epoch {best.best_epoch}, {best.best_psnr:.2f} dB PSNR", err=True)
    tell(f"next: facemorph-core bundle {path}", err=True)


class _Show:
    """Progress on stderr: bars on a terminal, one line an epoch everywhere."""

    def __init__(self, advance: Callable[[str, int, int], None], say: Callable[[str], None]):
        self._advance, self._say = advance, say

    def preparing(self, done: int, total: int) -> None:
        self._advance("preparing faces", done, total)

    def step(self, done: int, total: int, terms: Mapping[str, float]) -> None:
        self._advance(f"training, loss {terms['loss']:.4f}", done, total)

    def epoch(self, line: Mapping[str, Any]) -> None:
        speed = line["images"] / max(line["seconds"], 1e-9)
        scores = f", PSNR {line['psnr']:.2f} dB, SSIM {line['ssim']:.3f}" if "psnr" in line else ""
        loss = line["training"]["loss"]
        self._say(f"epoch {line['epoch']}: loss {loss:.4f}{scores}, {speed:.0f} images/s")


@contextmanager
def _bars() -> Iterator[_Show]:
    from facemorph_core.machine.progress import COUNTED, progress_bars

    with progress_bars(*COUNTED, stays=False) as bars:
        task = bars.add_task("", total=None)

        def advance(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        yield _Show(advance, lambda text: bars.console.print(text, highlight=False))


command = train

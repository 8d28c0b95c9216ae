"""A simulated run on the terminal: what is going on, and how good the model is by now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID

from facemorph_core.machine.progress import Column, progress_bars
from simulations.run import Look, simulate

COLUMNS: tuple[Column, ...] = ("spinner", "what", "bar", "count", "elapsed", "note")


def run_live(
    config: Path,
    overrides: Sequence[str],
    *,
    root: Path,
    cpus_per_site: int = 1,
    console: Console | None = None,
) -> Path:
    """`simulate` with progress bars on standard error."""
    with progress_bars(*COLUMNS, console=console, always=True) as bars:
        prepare = bars.add_task("aligning the faces", total=None, visible=False, note="")
        rounds = bars.add_task("starting Flower", total=None, note="")

        def on_prepare(done: int, total: int) -> None:
            bars.update(prepare, completed=done, total=total, visible=True)

        def on_progress(look: Look) -> None:
            _show(bars, rounds, look)

        return simulate(
            config,
            overrides,
            root=root,
            cpus_per_site=cpus_per_site,
            on_progress=on_progress,
            on_prepare=on_prepare,
        )


def _show(bars: Bars, task: TaskID, look: Look) -> None:
    if not look.entries:
        return
    last = look.entries[-1]
    notes = []
    if "psnr" in last["server"]:
        notes.append(f"unseen people {last['server']['psnr']:.2f} dB")
    if last.get("set_aside"):
        notes.append(f"{len(last['set_aside'])} set aside")
    if not last.get("merged", True):
        notes.append("nothing merged")
    bars.update(
        task,
        description="training round by round",
        completed=last["round"],
        total=look.rounds,
        note=", ".join(notes),
    )

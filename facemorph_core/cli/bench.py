"""`facemorph-core bench`: how fast a model runs on this machine."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemorph_core.machine.printable import tell

if TYPE_CHECKING:
    from facemorph_core.deploy.speed import Cost, Measured


def command(
    model: Annotated[
        str,
        typer.Argument(help="Bundle, run directory, hub://HOST:PORT/NAME@VERSION, or starter."),
    ] = "starter",
    photo: Annotated[
        Path | None,
        typer.Option(help="A photo with a face: also time the whole way from a 640x480 picture."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each way and engine.")] = 4.0,
    int8: Annotated[
        bool, typer.Option("--int8/--no-int8", help="int8 needs the demo's public faces.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Frames a second on this machine: decode, encode + decode, and from a camera's picture.

    ONNX Runtime with float32, float16 weights and int8, beside torch where it is installed; the
    engines take turns. What fewer bits cost is measured on public faces.

    Examples:
      facemorph-core bench
      facemorph-core bench starter --photo anna.jpg --json
    """
    from facemorph_core.bundle import open_bundle
    from facemorph_core.bundle.find import find_model
    from facemorph_core.deploy.speed import bench, camera_picture
    from facemorph_core.machine.describe import describe

    picture = camera_picture(photo) if photo else None
    found = bench(open_bundle(find_model(model)), seconds=seconds, int8=int8, picture=picture)
    machine = describe()
    if as_json:
        tell(json.dumps(_facts(found, machine), indent=1))
    else:
        tell(_markdown(found, machine), nl=False)


def _facts(found: Measured, machine: str) -> dict[str, Any]:
    return {
        "machine": machine,
        "timings": [
            asdict(each)
            | {
                "frames_per_second": each.frames_per_second,
                "slow_frames_per_second": each.slow_frames_per_second,
            }
            for each in found.timings
        ],
        "engines": [asdict(each) | {"memory_mib": _known(each)} for each in found.costs],
    }


def _markdown(found: Measured, machine: str) -> str:
    names = list(dict.fromkeys(each.engine for each in found.timings))
    lines = [f"Frames a second on {machine}: the median, and in brackets what 19 of 20 reach.", ""]
    lines += [f"| | batch | {' | '.join(names)} |", f"| --- | ---: |{' ---: |' * len(names)}"]
    ways = dict.fromkeys((each.what, each.batch) for each in found.timings)
    for what, batch in ways:
        own = {e.engine: e for e in found.timings if (e.what, e.batch) == (what, batch)}
        cells = [
            f"{own[name].frames_per_second:.0f} [{own[name].slow_frames_per_second:.0f}]"
            for name in names
        ]
        lines.append(f"| {what} | {batch} | {' | '.join(cells)} |")
    lines += ["", "| | networks, MB | memory, MiB | PSNR of public faces, dB | lost, dB |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for each in found.costs:
        size = f"{each.megabytes:.1f}" if each.megabytes else "-"
        quality = (
            "- | -"
            if each.psnr is None or each.lost is None
            else f"{each.psnr:.2f} | {each.lost:.2f}"
        )
        memory = "-" if _known(each) is None else f"{each.memory_mib:.0f}"
        lines.append(f"| {each.engine} | {size} | {memory} | {quality} |")
    return "\n".join(lines) + "\n"


def _known(cost: Cost) -> float | None:
    """Its memory, which Windows does not tell."""
    return None if math.isnan(cost.memory_mib) else cost.memory_mib

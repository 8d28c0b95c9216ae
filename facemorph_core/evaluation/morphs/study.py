"""Every pair in every mode, measured; kept on disk, so that a study can be stopped and go on.

A study is a directory: ``study.json`` says what is measured, ``blocks/NNNN.npz`` hold the figures
of a few pairs each, and their own hashes; a block that is damaged is measured again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment import mesh
from facemorph_core.alignment.frame import FRAME_SIZE, NUM_LANDMARKS
from facemorph_core.alignment.landmarks import LandmarkDetector
from facemorph_core.disk.output import reported_output
from facemorph_core.disk.resume import claim
from facemorph_core.disk.sealed import read_sealed, write_sealed
from facemorph_core.evaluation.morphs.judges import Judges, Remembering
from facemorph_core.evaluation.morphs.measures import landmark_error, relative_sharpness, unevenness
from facemorph_core.evaluation.morphs.pairs import Case, FramedFace, Pairs
from facemorph_core.machine.progress import Progress
from facemorph_core.metrics.identity import Embedder, distances
from facemorph_core.metrics.psnr import psnr
from facemorph_core.morphing.choices import Mode
from facemorph_core.morphing.engine import FRAMES_VERSION, Morpher
from facemorph_core.morphing.transition import DEFAULT_STEPS, alphas

__all__ = ["CURVE", "PARENTS", "Study", "measured", "measured_parents", "run_study"]

FORMAT_VERSION = 3
BLOCK = 10
"""Pairs that are measured before they are kept."""
NEAR_ENDS = np.array([0.01, 0.99])
CURVE = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
"""Where the likeness to both parents is looked at."""
PARENTS = "parents"
EMBEDDED = 128
"""Numbers of dlib's embedding."""

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """The figures of all pairs."""

    modes: tuple[Mode, ...]
    names: list[tuple[str, str]]
    columns: dict[str, Columns]
    """Of each mode, and of the parents under "parents": name -> (pairs, ...)."""
    facts: dict[str, Any]


def run_study(
    pairs: Pairs,
    morpher: Morpher,
    modes: Sequence[Mode],
    judges: Judges,
    folder: Path,
    *,
    about: str,
    progress: Progress | None = None,
) -> Study:
    """Measure what is not yet measured in ``folder``, and return everything.

    ``about`` says which pairs they are.

    Raises:
        OutputError: the folder holds another study, or cannot be written.
        PhotoError: a photo cannot be used.
    """
    facts = _facts(pairs, morpher, modes, judges, about)
    claim(folder, facts, what="study")
    blocks: list[Columns] = []
    for start in range(0, len(pairs), BLOCK):
        path = folder / "blocks" / f"{start // BLOCK:04d}.npz"
        block = _kept(path)
        if block is None:
            numbers = range(start, min(start + BLOCK, len(pairs)))
            cases = [pairs.case(number, morpher) for number in numbers]
            block = _block(cases, morpher, modes, judges)
            _keep(path, block)
        blocks.append(block)
        if progress:
            progress(min(start + BLOCK, len(pairs)), len(pairs))
    columns: dict[str, Columns] = {group: {} for group in (PARENTS, *modes)}
    for key in blocks[0]:
        group, name = key.split("/")
        columns[group][name] = np.concatenate([block[key] for block in blocks])
    names = [pairs.names(number) for number in range(len(pairs))]
    return Study(tuple(modes), names, columns, facts)


def measured(case: Case, morpher: Morpher, judges: Judges) -> Columns:
    """The figures of one pair in the morpher's mode; NaN for what is not seen."""
    first, second = case.faces
    way = morpher.between(case.faces)
    even = alphas(DEFAULT_STEPS)
    frames, near = way.frames(even), way.frames(NEAR_ENDS)
    middle, points = frames[DEFAULT_STEPS // 2], _interpolated(case, 0.5)
    photos, marks = (first.pixels, second.pixels), (first.landmarks, second.landmarks)
    found: dict[str, Any] = {
        "ends": psnr(np.stack(photos), near).mean(),
        "sharpness": relative_sharpness(middle, points, photos, marks),
        "landmarks": _error_of_found(middle, points, judges.detector),
    }
    if judges.steps is not None:
        eased = way.equal_to_the_eye(known=dict(zip(even.tolist(), frames, strict=True)))
        found["steps"] = judges.steps(frames)
        found["uneven"] = unevenness(found["steps"])
        found["uneven_eased"] = unevenness(judges.steps(way.frames(eased)))
    if judges.features is not None:
        found["features"] = judges.features(middle[None])[0]
    if judges.embedder is not None:
        shown = frames[np.rint(CURVE * (DEFAULT_STEPS - 1)).astype(int)]
        places = np.stack([_interpolated(case, alpha) for alpha in CURVE])
        own = judges.embedder.embed(shown, places)
        for name, other in zip(("to_a", "to_b"), case.others, strict=True):
            found[name] = distances(own, _embedded([other], judges.embedder))
        found["worst"] = np.maximum(found["to_a"], found["to_b"])[len(CURVE) // 2]
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def measured_parents(case: Case, judges: Judges) -> Columns:
    """What the photos themselves say, whatever the mode.

    ``bound`` is the worse distance that the point midway between both embeddings would have: no
    picture is known to do better. ``features`` are those of real faces.
    """
    found: dict[str, Any] = {}
    if judges.embedder is not None:
        own = _embedded(
            [FramedFace(face.pixels, face.landmarks) for face in case.faces], judges.embedder
        )
        others = _embedded(case.others, judges.embedder)
        found["bound"] = distances(own.mean(axis=0), others).max()
        found["same"] = distances(own, others)
    if judges.features is not None:
        shown = [other or face for other, face in zip(case.others, case.faces, strict=True)]
        found["features"] = judges.features(np.stack([each.pixels for each in shown]))
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def _interpolated(case: Case, alpha: float) -> NDArray[np.float64]:
    """Where the landmarks of the frame at ``alpha`` belong."""
    first, second = (mesh.vertices(face.landmarks)[:NUM_LANDMARKS] for face in case.faces)
    return np.asarray((1 - alpha) * first + alpha * second)


def _error_of_found(
    frame: NDArray[np.uint8], points: NDArray[np.float64], detector: LandmarkDetector
) -> float:
    faces = detector.detect(frame)
    return landmark_error(faces[0].landmarks, points) if faces else float("nan")


def _embedded(seen: Sequence[FramedFace | None], embedder: Embedder) -> NDArray[np.float64]:
    """(n, 128); NaN where there is no photo."""
    found = np.full((len(seen), EMBEDDED), np.nan)
    there = [place for place, each in enumerate(seen) if each is not None]
    shown = [each for each in seen if each is not None]
    if shown:
        pixels = np.stack([each.pixels for each in shown])
        found[there] = embedder.embed(pixels, np.stack([each.landmarks for each in shown]))
    return found


# --- on disk -----------------------------------------------------------------------------------


def _block(
    cases: Sequence[Case], morpher: Morpher, modes: Sequence[Mode], judges: Judges
) -> Columns:
    """Keys are "group/name"; the first axis is the pairs."""
    columns: dict[str, list[NDArray[np.float64]]] = {}
    for case in cases:
        looking = judges
        if judges.embedder is not None:
            looking = replace(judges, embedder=Remembering(judges.embedder))
        groups = {PARENTS: measured_parents(case, looking)}
        for mode in modes:
            own = morpher.but(mode=mode, compose="frame", size=FRAME_SIZE)
            groups[mode] = measured(case, own, looking)
        for group, found in groups.items():
            for name, value in found.items():
                columns.setdefault(f"{group}/{name}", []).append(value)
    return {key: np.stack(values) for key, values in columns.items()}


def _keep(path: Path, columns: Columns) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)  # type: ignore[arg-type] # numpy 2.4's own stub
    with reported_output(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, buffer.getvalue())


def _kept(path: Path) -> Columns | None:
    """None if there is no such block, or a damaged one."""
    content = read_sealed(path)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as block:
        return dict(block)


def _facts(
    pairs: Pairs, morpher: Morpher, modes: Sequence[Mode], judges: Judges, about: str
) -> dict[str, Any]:
    names = [pairs.names(number) for number in range(len(pairs))]
    return {
        "format_version": FORMAT_VERSION,
        "frames_version": FRAMES_VERSION,
        "about": about,
        "pairs": len(pairs),
        "pairs_sha256": hashlib.sha256(json.dumps(names).encode()).hexdigest(),
        "modes": list(modes),
        "model": morpher.bundle.manifest.name,
        "model_sha256": morpher.bundle.digest,
        "fit": morpher.fit,
        "not_measured": judges.unavailable,
    }

"""Every score by group of people: who is served well, and who is not.

A *trait* sorts the faces into groups of which each face is in exactly one: an attribute of the
shard (yes, no, and unknown where there is any), and the brightness of the face, which stands for
skin and light together: thirds by the mean luma (BT.601) inside the landmark hull of the photo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facemorph_core.evaluation.reconstructions import Columns, FaceSet, intervals
from facemorph_core.metrics.bootstrap import Interval, intervals_json
from facemorph_core.metrics.hull import hull_masks

__all__ = [
    "ATTRIBUTES",
    "Group",
    "Groups",
    "brightness",
    "by_group",
    "groups_json",
    "groups_of",
    "thirds",
]

ATTRIBUTES = ("Male", "Young", "Smiling", "Eyeglasses")
VALUES = {"yes": 1, "no": -1, "unknown": 0}
THIRDS = ("darkest third", "middle third", "brightest third")
LUMA = np.array([0.299, 0.587, 0.114])
BATCH = 256  # faces in memory at a time

Groups = Mapping[str, Mapping[str, NDArray[np.bool_]]]
"""Trait -> group -> which faces are in it."""


class DescribedFaces(FaceSet, Protocol):
    """Faces of which attributes are known."""

    @property
    def attributes(self) -> Mapping[str, NDArray[np.int8]]:
        """Name -> -1 (no), 0 (unknown) or 1 (yes) for each row."""


@dataclass(frozen=True, slots=True)
class Group:
    """Scores of one group."""

    faces: int
    people: int
    intervals: dict[str, Interval]


def by_group(
    columns: Columns, groups: Groups, people: Sequence[str]
) -> dict[str, dict[str, Group]]:
    """Trait -> group -> its scores, with intervals over its people."""
    owners = np.asarray(people)
    return {
        trait: {
            name: Group(
                int(mask.sum()),
                len(np.unique(owners[mask])),
                intervals(
                    {key: column[mask] for key, column in columns.items()}, owners[mask].tolist()
                ),
            )
            for name, mask in parts.items()
        }
        for trait, parts in groups.items()
    }


def groups_json(columns: Columns, groups: Groups, people: Sequence[str]) -> dict[str, Any]:
    """`by_group` as JSON: trait -> group -> {"faces", "people", "scores": {name: interval}}."""
    return {
        trait: {
            name: {
                "faces": group.faces,
                "people": group.people,
                "scores": intervals_json(group.intervals),
            }
            for name, group in parts.items()
        }
        for trait, parts in by_group(columns, groups, people).items()
    }


def groups_of(faces: DescribedFaces, rows: NDArray[np.int64]) -> Groups:
    """The groups of these rows; an attribute that the faces do not have is no trait."""
    found: dict[str, dict[str, NDArray[np.bool_]]] = {}
    for trait in ATTRIBUTES:
        if trait in faces.attributes:
            column = faces.attributes[trait][rows]
            masks = {name: column == value for name, value in VALUES.items()}
            found[trait] = {name: mask for name, mask in masks.items() if mask.any()}
    found["Brightness"] = thirds(brightness(faces, rows))
    return found


def thirds(values: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Thirds by rank, as nearly equal as can be."""
    order = np.argsort(values, kind="stable")
    found = {}
    for name, part in zip(THIRDS, np.array_split(order, len(THIRDS)), strict=True):
        found[name] = np.isin(np.arange(len(values)), part)
    return {name: mask for name, mask in found.items() if mask.any()}


def brightness(faces: FaceSet, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean luma (0 to 255) inside each hull; of the frame where the hull is empty."""
    parts = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        luma = faces.images(batch) @ LUMA
        masks = hull_masks(faces.landmarks(batch), (luma.shape[1], luma.shape[2]))
        masks[~masks.any(axis=(1, 2))] = True
        parts.append(np.where(masks, luma, 0).sum(axis=(1, 2)) / masks.sum(axis=(1, 2)))
    return np.concatenate(parts) if parts else np.zeros(0)

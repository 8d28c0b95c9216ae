r"""Landmarks by an ensemble of regression trees, from dlib's file, as dlib places them.

A face shape is brought from a mean to its place in a cascade: every tree of a level looks at
differences between pixels near the current landmarks and adds the shape of the leaf it reaches.

dlib reads its file in 0.8 s and 100 MB, each time a program starts. Here the numbers are unpacked
once and kept where they can be mapped into memory; the points are those of dlib, to the pixel.

Convention:
    a forest has C levels of T trees of depth d over F pixels: 2^d - 1 splits and 2^d leaves each.
    Shapes are (68, 2) float32, in units of the face's box.

References:
    | One millisecond face alignment with an ensemble of regression trees (Kazemi & Sullivan, 2014)
    | dlib 20.0, image_processing/shape_predictor.h and serialize.h
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.geometry import Points, fit_similarity
from facemorph_core.disk.hashing import file_crc32

__all__ = ["Forest", "predict", "unpack"]

Values = NDArray[np.float32]
Places = NDArray[np.integer[Any]]
Corners = tuple[float, ...]

T = TypeVar("T")

_ROUNDING = 0.5
_CHECKSUMS = "checksums.json"


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """The numbers of a predictor."""

    start: Values
    """(68, 2) the shape that a search starts from."""
    pixels: Places
    """(C, T, S, 2) the two pixels that each split compares, by number."""
    thresholds: Values
    """(C, T, S) above which a difference leads to the left."""
    leaves: Values
    """(C, T, L, 136) what each leaf adds."""
    anchors: Places
    """(C, F) the landmark that each pixel goes with."""
    offsets: Values
    """(C, F, 2) and how far from it the pixel lies, in the starting shape."""

    def save(self, folder: Path) -> None:
        """One .npy for each array, and the checksums of them."""
        folder.mkdir(parents=True)
        for field, file in zip(fields(self), _files(folder), strict=True):
            np.save(file, getattr(self, field.name), allow_pickle=False)
        sums = [file_crc32(file) for file in _files(folder)]
        (folder / _CHECKSUMS).write_text(json.dumps(sums), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Forest:
        """Mapped into memory, once its checksums are found to hold.

        Raises:
            FileNotFoundError: it is not there.
            OSError, ValueError: it is damaged.
        """
        known = json.loads((folder / _CHECKSUMS).read_bytes())
        if known != [file_crc32(file) for file in _files(folder)]:
            raise ValueError("its checksums do not hold")
        # as plain arrays over the same memory: np.memmap makes every look at a part slow
        return Forest(*(np.asarray(np.load(file, mmap_mode="r")) for file in _files(folder)))


def _files(folder: Path) -> list[Path]:
    return [folder / f"{field.name}.npy" for field in fields(Forest)]


def predict(image: NDArray[np.uint8], box: Corners, forest: Forest) -> Points:
    """(68, 2) pixels of ``image`` (H, W, 3), whole numbers.

    ``box`` is left, top, right, bottom in whole pixels, the last two included.
    """
    left, top, right, bottom = box
    origin, extent = np.array([left, top]), np.array([right - left, bottom - top])
    shape = forest.start.copy()
    trees = np.arange(forest.leaves.shape[1])
    splits = forest.thresholds.shape[2]
    for level in range(len(forest.leaves)):
        turn = fit_similarity(forest.start.astype(float), shape.astype(float))[:, :2]
        (a, b), (c, d) = turn.astype(np.float32)
        u, v = forest.offsets[level].T
        near = np.stack([a * u + b * v, c * u + d * v], axis=1) + shape[forest.anchors[level]]
        x, y = np.floor(origin + extent * near + _ROUNDING).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
        grey = image[y * inside, x * inside].sum(axis=1, dtype=np.int32) // 3
        seen = np.where(inside, grey, 0)
        node = np.zeros_like(trees)
        while node[0] < splits:  # all trees are equally deep
            one, other = forest.pixels[level, trees, node].T
            lower = seen[one] - seen[other] <= forest.thresholds[level, trees, node]
            node = 2 * node + 1 + lower
        moves = forest.leaves[level, trees, node - splits]
        shape = np.concatenate([shape.reshape(1, -1), moves]).sum(axis=0).reshape(-1, 2)
    return np.floor(origin + extent * shape + _ROUNDING)


# --- dlib's file -------------------------------------------------------------------------------

_COORDINATES = 136
_LEAF_BEGINS = bytes([0x81, _COORDINATES, 0x81, 0x01])  # the packed sizes -136, -1 of a matrix


def unpack(data: bytes) -> Forest:
    """The forest in a file that dlib's ``serialize`` wrote.

    Numbers are packed one after the other in as many bytes as each needs. Leaves, nearly all of
    the file, are read side by side from where their sizes show that they begin.

    Raises:
        ValueError: another version, or damaged.
    """
    raw = np.frombuffer(data, np.uint8)
    begins, ends, leaves = _leaves(data, raw)
    number_of = {begin: number for number, begin in enumerate(begins.tolist())}
    reader = _Reader(data)

    def leaf() -> int:
        number = number_of[reader.at]
        reader.at = int(ends[number])
        return number

    def split() -> tuple[int, int, float]:
        return reader.integer(), reader.integer(), reader.real()

    try:
        if reader.integer() != 1:
            raise ValueError("not a shape predictor of version 1")
        start = leaf()
        levels = reader.listed(
            lambda: reader.listed(lambda: (reader.listed(split), reader.listed(leaf)))
        )
        anchors = reader.listed(lambda: reader.listed(reader.integer))
        offsets = reader.listed(lambda: reader.listed(lambda: (reader.real(), reader.real())))
    except (IndexError, KeyError) as error:
        raise ValueError("the landmark weights are damaged") from error
    splits = np.array([[tree[0] for tree in level] for level in levels])
    return Forest(
        start=leaves[start].reshape(-1, 2),
        pixels=splits[..., :2].astype(np.int32),
        thresholds=splits[..., 2].astype(np.float32),
        leaves=leaves[np.array([[tree[1] for tree in level] for level in levels])],
        anchors=np.array(anchors, np.int32),
        offsets=np.array(offsets, np.float32),
    )


class _Reader:
    """Goes through packed numbers in turn."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def integer(self) -> int:
        """A byte that says sign (its highest bit) and length, then the number, low bytes first."""
        control = self.data[self.at]
        begin, self.at = self.at + 1, self.at + 1 + (control & 15)
        value = int.from_bytes(self.data[begin : self.at], "little")
        return -value if control & 128 else value

    def real(self) -> float:
        """A mantissa and an exponent of 2."""
        mantissa = self.integer()
        return math.ldexp(mantissa, self.integer())

    def listed(self, item: Callable[[], T]) -> list[T]:
        """A length, then as many items."""
        return [item() for _ in range(self.integer())]


def _leaves(data: bytes, raw: NDArray[np.uint8]) -> tuple[Places, Places, Values]:
    """Where leaves begin and end, and the numbers (n, 136) in them."""
    begins = np.array([found.start() for found in re.finditer(re.escape(_LEAF_BEGINS), data)], int)
    values = np.empty((_COORDINATES, len(begins)), np.float32)
    at = begins + len(_LEAF_BEGINS)
    for row in values:
        mantissas, at = _packed(raw, at)
        exponents, at = _packed(raw, at)
        with np.errstate(over="ignore"):  # of what only looked like a leaf
            row[:] = np.ldexp(mantissas.astype(np.float32), exponents)
    return begins, at, np.ascontiguousarray(values.T)


def _packed(raw: NDArray[np.uint8], at: Places) -> tuple[Places, Places]:
    """One number from each place, and where the next begins."""
    last = len(raw) - 1
    control = raw[np.minimum(at, last)]
    length = (control & 15).astype(np.int64)
    value = np.zeros(len(at), np.int32)
    for byte in range(4):  # mantissas of float32 have at most three
        found = raw[np.minimum(at + 1 + byte, last)].astype(np.int32) << (8 * byte)
        value += np.where(byte < length, found, 0)
    return np.where(control & 128, -value, value), at + 1 + length

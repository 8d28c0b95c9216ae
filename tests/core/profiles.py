"""Minimal colour profiles for tests (ICC.1:2022), and pictures in their numbers."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# red, green and blue as XYZ under D50, and the power of the curve
SPACES = {
    "srgb-like": (
        [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)],
        2.2,
    ),
    "display-p3": (
        [(0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)],
        2.2,
    ),
    "adobe-rgb": (
        [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)],
        2.19921875,
    ),
    "prophoto": (
        [(0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)],
        1.8,
    ),
}
_WHITE = (0.9642, 1.0, 0.8249)
_TO_XYZ = np.array(SPACES["srgb-like"][0]).T


def icc(space: str) -> bytes:
    """The profile of a space, version 2."""
    primaries, power = SPACES[space]
    colours = zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, primaries), strict=True)
    curves = ((tag, _curve(power)) for tag in (b"rTRC", b"gTRC", b"bTRC"))
    return _profile(b"RGB ", [*colours, *curves])


def grey_icc(power: float) -> bytes:
    """The profile of grey of this curve."""
    return _profile(b"GRAY", [(b"kTRC", _curve(power))])


def in_space(picture: Image.Image, space: str) -> Image.Image:
    """The same colours, in the numbers that ``space`` has for them."""
    primaries, power = SPACES[space]
    linear = linear_srgb(np.asarray(picture.convert("RGB")))
    there = linear @ _TO_XYZ.T @ np.linalg.inv(np.array(primaries))
    return Image.fromarray((np.clip(there, 0, 1) ** (1 / power) * 255).round().astype(np.uint8))


def linear_srgb(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    values = pixels.astype(np.float64) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _curve(power: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IHH", 1, round(power * 256), 0)


def _xyz(value: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(number) for number in value)


def _fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))


def _profile(kind: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    name = b"test\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)
    every = [(b"desc", described), (b"cprt", b"text" + bytes(4) + b"none\0"), *tags]
    every.append((b"wtpt", _xyz(_WHITE)))
    table, body, start = struct.pack(">I", len(every)), b"", 132 + 12 * len(every)
    for tag, data in every:
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI", start + len(body), 0x02400000) + b"mntr" + kind + b"XYZ "
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    return (head + b"".join(map(_fixed, _WHITE))).ljust(128, b"\0") + table + body

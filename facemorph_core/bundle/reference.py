"""The test vector of a bundle: a few images, their codes, and what the codes decode to.

Whoever holds the bundle can run the model on the images and see the same numbers come out. The
images are drawn from a seed, never photos. The member is a canonical zip of .npy files, so
`numpy.load` opens it, but here it is read without numpy's loader: each header must be, letter by
letter, the one that the manifest implies, so nothing is decompressed, evaluated, unpickled or
allocated on its word.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.bundle.archive import NotCanonical, pack, unpack
from facemorph_core.disk.npy import array_or_none

IMAGES = 2
CODE_TOLERANCE = 1e-3
"""Largest error of a code, relative to its length."""
PIXEL_TOLERANCE = 2
"""Largest error of a decoded value, in levels of 255."""

_Layout = tuple[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class Reference:
    """``pixels`` (n, S, S, 3) uint8 -> ``codes`` (n, D) float32 -> ``images`` like pixels."""

    pixels: NDArray[np.uint8]
    codes: NDArray[np.float32]
    images: NDArray[np.uint8]


def draw_pixels(image_size: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colour gradients with some grain, (IMAGES, S, S, 3): nobody's face."""
    rng = np.random.default_rng(seed)
    across = np.linspace(-1, 1, image_size)
    y, x = np.meshgrid(across, across, indexing="ij")
    basis = np.stack([np.ones_like(x), x, y, x * y, x**2 - y**2, np.cos(3 * x) * np.cos(3 * y)])
    waves = np.einsum("nck,khw->nhwc", rng.normal(size=(IMAGES, 3, len(basis))), basis)
    grain = rng.normal(scale=0.1, size=waves.shape)
    return np.clip(np.rint(127.5 + 50 * (waves + grain)), 0, 255).astype(np.uint8)


def pack_reference(reference: Reference) -> bytes:
    """The bytes of `testvector.npz`."""
    return pack({f"{name}.npy": _npy(array) for name, array in vars(reference).items()})


def unpack_reference(data: bytes, *, image_size: int, latent_dim: int) -> Reference:
    """The arrays of `testvector.npz`.

    Raises:
        NotCanonical: if it is not exactly what a bundle of these sizes holds.
    """
    pictures: _Layout = ((IMAGES, image_size, image_size, 3), np.dtype(np.uint8))
    expected: dict[str, _Layout] = {
        "pixels.npy": pictures,
        "codes.npy": ((IMAGES, latent_dim), np.dtype(np.float32)),
        "images.npy": pictures,
    }
    members = unpack(data)
    if list(members) != list(expected):
        raise NotCanonical(f"its test vector holds {', '.join(map(repr, members))}")
    arrays = [_array(members[name], *layout) for name, layout in expected.items()]
    reference = Reference(*arrays)
    if not np.isfinite(reference.codes).all():
        raise NotCanonical("the codes of its test vector are not all numbers")
    return reference


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _array(data: memoryview, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    found = array_or_none(data, shape, dtype)
    if found is None:
        raise NotCanonical(f"an array of its test vector is not {dtype} of shape {shape}")
    return found

r"""Floors: what a face keeps in some numbers when no network is trained.

- `DCT`: the lowest frequencies of its difference from the mean face, luma and chroma apart.
- `PCA`: principal components of the pixels (Eigenfaces).
- `ShapeTexturePCA`: the shipped shape basis, and principal components of the pixels in the mean
  shape (an active appearance model without its search).

Codes of the last two are whitened, so that their prior is N(0, I): what a Gaussian fitted to the
training faces would draw.

References:
    | Eigenfaces for Recognition (Turk & Pentland, 1991)
    | Active Appearance Models (Cootes, Edwards & Taylor, 2001)
    | JPEG File Interchange Format (Hamilton, 1992): the YCbCr of BT.601, full range
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.components import (
    PASSES,
    Blocks,
    Components,
    fit_components,
    mean_picture,
    to_uint8,
)
from benchmarks.method import Facts, standard_normal
from facemorph_core.alignment.frame import shape_basis
from facemorph_core.latent.geometry import Geometry, geometry_of
from facemorph_core.learning.training.batches import Faces
from facemorph_core.machine.progress import Progress

__all__ = ["DCT", "PCA", "ShapeTexturePCA", "fit_dct", "fit_pca", "fit_shape_texture", "truncated"]

BLOCK = 256  # faces in memory at a time
CHROMA_SHARE = 8
"""One number in so many goes to each of Cb and Cr: 96 + 16 + 16 of 128."""

TO_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
FROM_YCBCR = np.linalg.inv(TO_YCBCR)


# --- DCT -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DCT:
    """Low-frequency DCT-II coefficients: untrained, but for the mean face."""

    mean: NDArray[np.float32]
    """(S, S, 3) grey levels."""
    facts: Facts

    @property
    def name(self) -> str:
        return f"DCT-{self.facts.numbers}"

    def encode(
        self, pixels: NDArray[np.uint8], landmarks: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        """Coefficients (n, D) of an orthonormal transform, grey levels: Y, then Cb, then Cr."""
        planes = ((pixels - self.mean) @ TO_YCBCR.T).transpose(0, 3, 1, 2)
        spectra = self._waves @ planes @ self._waves.T
        return np.ascontiguousarray(spectra[:, *self._places])

    def decode(self, codes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """The faces of coefficients; all others are 0."""
        spectra = np.zeros((len(codes), 3, *[len(self._waves)] * 2), np.float32)
        spectra[:, *self._places] = codes
        planes = self._waves.T @ spectra @ self._waves
        return to_uint8(planes.transpose(0, 2, 3, 1) @ FROM_YCBCR.T + self.mean)

    def sample(self, count: int, *, seed: int) -> None:
        """None: nothing is known of how its numbers are spread."""

    @cached_property
    def _places(self) -> NDArray[np.intp]:
        """(3, D) plane, vertical and horizontal frequency of each number."""
        chroma = self.facts.numbers // CHROMA_SHARE
        counts = (self.facts.numbers - 2 * chroma, chroma, chroma)
        order = _by_frequency(len(self.mean))
        parts = [np.insert(order[:count], 0, plane, axis=1) for plane, count in enumerate(counts)]
        return np.concatenate(parts).T

    @cached_property
    def _waves(self) -> NDArray[np.float32]:
        """The orthonormal waves that are used, (frequencies, S)."""
        return _cosines(len(self.mean))[: self._places[1:].max() + 1]


def fit_dct(faces: Faces, rows: NDArray[np.int64], numbers: int = 128) -> DCT:
    """The DCT about the mean of ``rows``."""
    started = time.perf_counter()
    mean, _ = mean_picture(_blocks(faces, rows))
    facts = Facts(
        numbers=numbers,
        parameters=mean.size,
        images_seen=len(rows),
        seconds=time.perf_counter() - started,
        note="untrained: only the mean face is learned; no prior",
    )
    return DCT(mean, facts)


def _by_frequency(side: int) -> NDArray[np.intp]:
    """(side^2, 2) vertical and horizontal frequencies, the slowest waves first.

    >>> _by_frequency(8)[:6].tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [2, 0]]
    """
    down, across = np.divmod(np.arange(side * side), side)
    order = np.lexsort((down, down**2 + across**2))
    return np.column_stack([down[order], across[order]])


def _cosines(side: int) -> NDArray[np.float32]:
    """The orthonormal DCT-II: one wave a row, (side, side)."""
    frequency, place = np.arange(side)[:, None], np.arange(side) + 0.5
    waves = np.cos(np.pi / side * frequency * place) * np.sqrt(2 / side)
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


# --- PCA -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PCA:
    """Principal components of the pixels in the frame."""

    components: Components
    facts: Facts

    @property
    def name(self) -> str:
        return f"PCA-{self.facts.numbers}"

    def encode(
        self, pixels: NDArray[np.uint8], landmarks: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        return self.components.encode(pixels)

    def decode(self, codes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        return self.components.decode(codes)

    def sample(self, count: int, *, seed: int) -> NDArray[np.float32]:
        """From N(0, I)."""
        return standard_normal(count, self.facts.numbers, seed=seed)


def fit_pca(
    faces: Faces, rows: NDArray[np.int64], numbers: int = 128, *, on_pass: Progress | None = None
) -> PCA:
    """The components of ``rows``, read block by block from wherever they lie."""
    started = time.perf_counter()
    components = fit_components(_blocks(faces, rows), numbers, on_pass=on_pass)
    facts = Facts(
        numbers=numbers,
        parameters=components.parameters,
        images_seen=PASSES * len(rows),
        seconds=time.perf_counter() - started,
        note="prior: N(0, I) of whitened numbers",
    )
    return PCA(components, facts)


def truncated(pca: PCA, numbers: int) -> PCA:
    """The PCA to fewer numbers: what fitting it to these would have given, at the whole's cost."""
    components = pca.components.first(numbers)
    note = f"{pca.facts.note}; the first {numbers} of {pca.facts.numbers} components"
    facts = replace(pca.facts, numbers=numbers, parameters=components.parameters, note=note)
    return PCA(components, facts)


# --- shape and texture -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ShapeTexturePCA:
    """Principal components of the landmarks, then of the pixels in the mean shape."""

    geometry: Geometry
    texture: Components
    facts: Facts

    @property
    def name(self) -> str:
        return f"Shape+texture PCA-{self.facts.numbers}"

    def encode(
        self, pixels: NDArray[np.uint8], landmarks: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        seen = self.geometry.see(pixels, landmarks)
        return self.geometry.join(seen.shape, self.texture.encode(seen.pixels))

    def decode(self, codes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        shape, texture = self.geometry.split(codes)
        return self.geometry.show(self.texture.decode(texture), shape)

    def sample(self, count: int, *, seed: int) -> NDArray[np.float32]:
        """From N(0, I): shape and texture as if they were independent."""
        return standard_normal(count, self.facts.numbers, seed=seed)


def fit_shape_texture(
    faces: Faces, rows: NDArray[np.int64], numbers: int = 128, *, on_pass: Progress | None = None
) -> ShapeTexturePCA:
    """The shipped shape basis and the components of the textures of ``rows``.

    The textures are held in memory as uint8, 0.9 GB for 17,500 faces of 128 px: warping each face
    again in every pass would take far longer than the fit.

    Raises:
        ValueError: ``numbers`` leaves none for the texture.
    """
    started = time.perf_counter()
    geometry = geometry_of("mean_shape", faces.size)
    if numbers <= geometry.numbers:
        raise ValueError(f"{numbers} numbers leave none for the texture")
    textures = np.empty((len(rows), faces.size, faces.size, 3), np.uint8)
    for part in _slices(len(rows)):
        seen = geometry.see(faces.images(rows[part]), faces.landmarks(rows[part]))
        textures[part] = seen.pixels
    texture = fit_components(
        lambda: (textures[part] for part in _slices(len(rows))),
        numbers - geometry.numbers,
        on_pass=on_pass,
    )
    basis = shape_basis()
    shape_parameters = basis.mean.size + basis.components.size + basis.scales.size
    facts = Facts(
        numbers=numbers,
        parameters=texture.parameters + shape_parameters,
        images_seen=PASSES * len(rows),
        seconds=time.perf_counter() - started,
        note=f"{geometry.numbers} numbers of the shipped shape basis; "
        "prior: N(0, I) of whitened numbers",
    )
    return ShapeTexturePCA(geometry, texture, facts)


# --- common ----------------------------------------------------------------------------------


def _blocks(faces: Faces, rows: NDArray[np.int64]) -> Blocks:
    return lambda: (faces.images(rows[part]) for part in _slices(len(rows)))


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))

"""The geometries of a code, by name: what of it is shape, and what the networks see of a face.

A further one is a class in a file of its own, see `latent.base`; one entry in GEOMETRIES; and its
name in GeometryKind, which is all that configs and manifests ask. Files of a known geometry stay
as they are, and a reader that lacks the name refuses the file.
"""

from __future__ import annotations

from typing import Literal

from facemorph_core.latent.base import Geometry, Seen
from facemorph_core.latent.mean_shape import MeanShape
from facemorph_core.latent.plain import Plain

__all__ = ["GEOMETRIES", "Geometry", "GeometryKind", "Seen", "geometry_of", "network_numbers"]

GeometryKind = Literal["plain", "mean_shape"]

GEOMETRIES: dict[GeometryKind, type[Geometry]] = {"plain": Plain, "mean_shape": MeanShape}


def geometry_of(kind: GeometryKind, size: int) -> Geometry:
    """The geometry of a model for pictures of ``size`` pixels."""
    return GEOMETRIES[kind](size)


def network_numbers(latent_dim: int, kind: GeometryKind) -> int:
    """How many numbers of a code the networks make: all, or all but the shape's.

    Raises:
        ValueError: there is none left.
    """
    of_shape = GEOMETRIES[kind].numbers
    if latent_dim <= of_shape:
        raise ValueError(
            f"latent_dim {latent_dim} leaves no number for the texture: {of_shape} are the shape's"
        )
    return latent_dim - of_shape

"""A model's faces as pictures in the frame, whatever its geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facemorph_core.latent.fitting import Draw, fitted
from facemorph_core.latent.geometry import Geometry
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.training.batches import to_images

AT_ONCE = 32  # pictures: bounds the memory


@torch.no_grad()
def encode(
    model: Autoencoder,
    geometry: Geometry,
    frames: NDArray[np.uint8],
    landmarks: NDArray[Any],
    *,
    fit: int = 0,
) -> NDArray[np.float32]:
    """Codes (n, D) of faces in the frame (n, S, S, 3) with their landmarks (n, 68, 2).

    ``fit`` steps then bring each code nearer to its face, see `facemorph_core.latent.fitting`.
    """
    seen = geometry.see(frames, landmarks)
    images = to_images(seen.pixels, device_of(model))
    texture = model.code(images).float().cpu().numpy()
    if fit:
        texture = fitted(texture, images.cpu().numpy(), seen.areas, drawer(model), steps=fit)
    return geometry.join(seen.shape, texture)


@torch.no_grad()
def decode(
    model: Autoencoder, geometry: Geometry, codes: NDArray[np.floating[Any]]
) -> NDArray[np.uint8]:
    """The faces (n, S, S, 3) of codes (n, D), in the frame."""
    shape, texture = geometry.split(codes)
    values = torch.from_numpy(np.ascontiguousarray(texture, np.float32)).to(device_of(model))
    return geometry.show(to_pixels(model.decode(values)), shape)


def drawer(model: Autoencoder) -> Draw:
    """What the decoder draws of texture codes (n, D), some at a time: (n, 3, S, S) in [-1, 1]."""

    def draw(codes: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = torch.split(torch.from_numpy(codes).to(device_of(model)), AT_ONCE)
        return torch.cat([model.decode(part) for part in parts]).cpu().numpy()

    return torch.no_grad()(draw)


def to_pixels(images: torch.Tensor) -> NDArray[np.uint8]:
    """(B, 3, S, S) in [-1, 1] -> uint8 (B, S, S, 3), rounded to the nearest."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def device_of(model: nn.Module) -> torch.device:
    """Where its weights are."""
    return next(model.parameters()).device

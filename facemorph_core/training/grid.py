"""A picture of where a model stands: faces, their reconstructions, faces from random codes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.metrics.evaluation import spread
from facemorph_core.models import AE, Autoencoder
from facemorph_core.training.batches import Faces, to_images
from facemorph_core.training.evaluate import to_pixels

COLUMNS, GAP = 8, 2


@torch.no_grad()
def draw_grid(
    model: Autoencoder, shard: Faces | None, *, split: str, samples: int, seed: int
) -> Image.Image | None:
    """Eight faces of ``split`` above their reconstructions, then faces from codes of N(0, I).

    The same faces and codes for one seed. A plain AE has no distribution of codes to draw
    from, so it shows no ``samples``. None if there is nothing to show.
    """
    model.eval()
    rows: list[NDArray[np.uint8]] = []
    if shard is not None and len(shard.rows(split)):
        faces = shard.images(spread(shard.rows(split), COLUMNS))
        images = to_images(faces, torch.device("cpu"))
        rows += [faces, to_pixels(model.decode(model.code(images)))]
    if samples and not isinstance(model, AE):
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randn(samples, model.latent_dim, generator=generator)
        drawn = to_pixels(model.decode(codes))
        rows += [drawn[start : start + COLUMNS] for start in range(0, samples, COLUMNS)]
    return tiled(rows) if rows else None


def tiled(rows: list[NDArray[np.uint8]]) -> Image.Image:
    """Rows of (n, S, S, 3) faces on white, short rows at the left."""
    size = rows[0].shape[1]
    columns = max(len(row) for row in rows)
    pitch = size + GAP
    canvas = np.full((len(rows) * pitch - GAP, columns * pitch - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, face in enumerate(row):
            canvas[i * pitch : i * pitch + size, j * pitch : j * pitch + size] = face
    return Image.fromarray(canvas)

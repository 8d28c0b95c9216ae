"""A picture of where a model stands: faces, their reconstructions, faces from random codes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.config.schema import RunConfig
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.learning.models import AE, Autoencoder
from facemorph_core.learning.training.batches import Faces
from facemorph_core.learning.training.reconstruct import decode, encode
from facemorph_core.shards.rows import spread
from facemorph_core.shards.shard import check_size

COLUMNS, GAP = 8, 2


@torch.no_grad()
def draw_grid(model: Autoencoder, shard: Faces | None, config: RunConfig) -> Image.Image | None:
    """Eight faces above their reconstructions, then faces from codes of N(0, I).

    ``config.evaluation`` says of which split, and how many samples; the same faces and codes for
    one seed. A plain AE has no distribution of codes to draw from: it shows no samples. None if
    there is nothing to show.
    """
    model.eval()
    wanted, geometry = config.evaluation, geometry_of(config.model.geometry, model.image_size)
    rows: list[NDArray[np.uint8]] = []
    if shard is not None and len(shard.rows(wanted.split)):
        check_size(shard.size, model.image_size)
        chosen = spread(shard.rows(wanted.split), COLUMNS)
        faces = shard.images(chosen)
        codes = encode(model, geometry, faces, shard.landmarks(chosen))
        rows += [faces, decode(model, geometry, codes)]
    if wanted.samples and not isinstance(model, AE):
        generator = torch.Generator().manual_seed(config.seed)
        size = (wanted.samples, config.model.latent_dim)
        drawn = decode(model, geometry, torch.randn(size, generator=generator).numpy())
        rows += [drawn[start : start + COLUMNS] for start in range(0, wanted.samples, COLUMNS)]
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

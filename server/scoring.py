"""What the server itself can say about the global model: scores and pictures of public faces.

No face of a site is ever here. In a simulation these are people who are at no site; in a real
federation they are the public demo faces, a shard of the coordinator's own, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.config import RunConfig
from facemorph_core.config.schema import DataConfig
from facemorph_core.models import Autoencoder
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.shard import Shard
from facemorph_core.training.batches import to_images
from facemorph_core.training.evaluate import evaluate_shard, spread, to_pixels

Pixels = NDArray[np.uint8]
_GRID_FACES = 8


@dataclass(frozen=True, slots=True)
class PublicFaces:
    """Faces that the server may look at."""

    shard: Shard | None
    split: str

    @classmethod
    def of(cls, config: RunConfig) -> PublicFaces:
        """The faces that ``evaluation`` names.

        Raises:
            ShardError: if they cannot be had.
        """
        wanted = config.evaluation
        match wanted.faces:
            case "held_out":
                return cls(shard_for(config.data, seed=config.seed), wanted.split)
            case "orl":
                return cls(shard_for(DataConfig(source="orl"), seed=config.seed), wanted.split)
            case "shard":
                return cls(Shard.open(Path(wanted.shard).expanduser()), wanted.split)
            case "none":
                return cls(None, wanted.split)

    def scores(self, model: Autoencoder, config: RunConfig) -> dict[str, float]:
        """Mean scores of reconstructions and the number of faces; empty without faces."""
        if self.shard is None or len(self.shard.rows(self.split)) == 0:
            return {}
        sums = evaluate_shard(
            model, self.shard, self.split, config, max_faces=config.evaluation.max_faces
        )
        examples = sums.pop("examples")
        return {"faces": examples} | {name: total / examples for name, total in sums.items()}

    def sample_grid(self, model: Autoencoder, config: RunConfig) -> Image.Image:
        """Faces, their reconstructions below them, then faces from random codes."""
        rows = []
        if self.shard is not None:
            chosen = spread(self.shard.rows(self.split), _GRID_FACES)
            faces = self.shard.images(chosen)
            rows += [faces, reconstruct(model, faces)]
        # The same codes every round, so that the grids show one story.
        noise = torch.Generator().manual_seed(config.seed)
        codes = torch.randn(config.evaluation.samples, model.latent_dim, generator=noise)
        drawn = draw(model, codes)
        rows += [drawn[i : i + _GRID_FACES] for i in range(0, len(drawn), _GRID_FACES)]
        return tiled(rows)


@torch.no_grad()
def reconstruct(model: Autoencoder, faces: Pixels) -> Pixels:
    """``faces`` (n, s, s, 3) through the code and back."""
    return draw(model, model.eval().code(to_images(faces, torch.device("cpu"))))


@torch.no_grad()
def draw(model: Autoencoder, codes: torch.Tensor) -> Pixels:
    """The faces (n, s, s, 3) of ``codes`` (n, d)."""
    return to_pixels(model.eval().decode(codes))


def tiled(rows: list[Pixels]) -> Image.Image:
    """Rows of faces (n, s, s, 3) as one picture, short rows left-aligned on white."""
    filled = [row for row in rows if len(row)]
    if not filled:
        return Image.new("RGB", (1, 1), "white")
    size, gap = filled[0].shape[1], 2
    columns = max(len(row) for row in filled)
    picture = Image.new(
        "RGB", (columns * (size + gap) - gap, len(filled) * (size + gap) - gap), "white"
    )
    for y, row in enumerate(filled):
        for x, face in enumerate(row):
            picture.paste(Image.fromarray(face), (x * (size + gap), y * (size + gap)))
    return picture

"""What the server itself can say about the global model: scores and pictures of public faces.

No face of a site is ever here. In a simulation these are people who are at no site; in a real
federation they are the public demo faces, a shard of the coordinator's own, or none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from facemorph_core.config import RunConfig
from facemorph_core.config.schema import DataConfig
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.training.evaluate import evaluate_shard
from facemorph_core.learning.training.grid import draw_grid
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.shard import Shard

log = logging.getLogger("flwr")


@dataclass(frozen=True, slots=True)
class PublicFaces:
    """Faces that the server may look at."""

    shard: Shard | None
    split: str

    @classmethod
    def of(cls, config: RunConfig, *, simulated: bool) -> PublicFaces:
        """The faces that ``evaluation`` names.

        Of real sites nobody knows whom they hold: for them no people are held out.

        Raises:
            ShardError: if they cannot be had.
        """
        wanted = config.evaluation
        match wanted.faces:
            case "held_out" if not simulated:
                log.info("evaluation.faces 'held_out' is for simulations: the sites' scores speak")
                return cls(None, wanted.split)
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

    def sample_grid(self, model: Autoencoder, config: RunConfig) -> Image.Image | None:
        """Faces, their reconstructions, faces from random codes: the same ones every round."""
        return draw_grid(model, self.shard, config)

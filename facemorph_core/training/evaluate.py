"""Scores of a model's reconstructions on a shard, as sums over images.

Sums and counts can be added over sites without any image leaving one. "psnr" (dB) and "ssim"
are of 8-bit pixels, "l1" and "squared_error" of the same pixels as values in [-1, 1].
"""

from __future__ import annotations

import numpy as np
import torch

from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ModelError
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.metrics.evaluation import spread
from facemorph_core.metrics.psnr import psnr
from facemorph_core.metrics.ssim import ssim
from facemorph_core.models import Autoencoder
from facemorph_core.training.batches import Faces
from facemorph_core.training.compute import choose_compute, cpu_threads
from facemorph_core.training.reconstruct import decode, encode

BATCH = 64


@torch.no_grad()
def evaluate_shard(
    model: Autoencoder,
    shard: Faces,
    split: str,
    config: RunConfig,
    *,
    max_faces: int | None = None,
) -> dict[str, float]:
    """{"examples", "squared_error", "l1", "psnr", "ssim"}: the count and sums over the images.

    ``max_faces`` takes that many, spread evenly over the split: the same ones every time. The
    codes are the deterministic ones and the arithmetic is float32. All zero for an empty split.
    """
    if shard.size != model.image_size:
        raise ModelError(
            f"the shard holds faces of {shard.size} px, the model wants {model.image_size} px"
        )
    rows = spread(shard.rows(split), max_faces)
    device = choose_compute(config.training).device
    geometry = geometry_of(config.model.geometry, model.image_size)
    sums = dict.fromkeys(("squared_error", "l1", "psnr", "ssim"), 0.0)
    was_training = model.training
    model.to(device).eval()
    with cpu_threads(config.training.threads):
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            pixels = shard.images(batch)
            codes = encode(model, geometry, pixels, shard.landmarks(batch))
            shown = decode(model, geometry, codes)
            error = (shown.astype(np.float64) - pixels) / 127.5
            sums["squared_error"] += float((error**2).mean(axis=(1, 2, 3)).sum())
            sums["l1"] += float(np.abs(error).mean(axis=(1, 2, 3)).sum())
            sums["psnr"] += float(psnr(pixels, shown).sum())
            sums["ssim"] += float(ssim(pixels, shown).sum())
    model.to("cpu").train(was_training)
    return {"examples": float(len(rows))} | sums

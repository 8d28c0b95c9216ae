"""Scores of a model's reconstructions on a shard, as sums over images.

Sums and counts can be added over sites without any image leaving one. "psnr" (dB) and "ssim"
are of 8-bit pixels, "l1" and "squared_error" of values in [-1, 1].
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from facemorph_core import losses
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ModelError
from facemorph_core.metrics.evaluation import spread
from facemorph_core.metrics.psnr import psnr
from facemorph_core.metrics.ssim import ssim
from facemorph_core.models import Autoencoder
from facemorph_core.training.batches import Faces, to_images
from facemorph_core.training.compute import choose_compute, cpu_threads

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
    sums = dict.fromkeys(("squared_error", "l1", "psnr", "ssim"), 0.0)
    was_training = model.training
    model.to(device).eval()
    with cpu_threads(config.training.threads):
        for start in range(0, len(rows), BATCH):
            pixels = shard.images(rows[start : start + BATCH])
            images = to_images(pixels, device)
            made = model.decode(model.code(images))
            shown = to_pixels(made)
            sums["squared_error"] += float(losses.squared(made, images).sum())
            sums["l1"] += float(losses.l1(made, images).sum())
            sums["psnr"] += float(psnr(pixels, shown).sum())
            sums["ssim"] += float(ssim(pixels, shown).sum())
    model.to("cpu").train(was_training)
    return {"examples": float(len(rows))} | sums


def to_pixels(images: torch.Tensor) -> NDArray[np.uint8]:
    """(B, 3, S, S) in [-1, 1] -> uint8 (B, S, S, 3), rounded to the nearest."""
    scaled = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()

"""Scores of a model's reconstructions on a shard, as sums over images.

Sums and counts can be added over sites without any image leaving one. "psnr" (dB) and "ssim"
are of 8-bit pixels, "l1" and "squared_error" of the same pixels as values in [-1, 1].
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from facemorph_core.config.schema import RunConfig
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.training.batches import Faces
from facemorph_core.learning.training.compute import choose_compute, cpu_threads
from facemorph_core.learning.training.reconstruct import decode, encode
from facemorph_core.metrics.psnr import psnr
from facemorph_core.metrics.ssim import ssim
from facemorph_core.shards.rows import spread
from facemorph_core.shards.shard import check_size

BATCH = 64
SCORES = ("squared_error", "l1", "psnr", "ssim")


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
    return evaluate_rows(model, shard, spread(shard.rows(split), max_faces), config)


def evaluate_rows(
    model: Autoencoder, shard: Faces, rows: NDArray[np.int64], config: RunConfig
) -> dict[str, float]:
    """As `evaluate_shard`, of these rows."""
    check_size(shard.size, model.image_size)
    scores = face_scores(model, shard, rows, config)
    sums = {name: float(each.sum()) for name, each in scores.items()}
    return {"examples": float(len(rows))} | sums


@torch.no_grad()
def face_scores(
    model: Autoencoder,
    shard: Faces,
    rows: NDArray[np.int64],
    config: RunConfig,
    *,
    at_once: int = BATCH,
) -> dict[str, NDArray[np.float64]]:
    """{"squared_error", "l1", "psnr", "ssim"}, each (n,): one number for each of these rows."""
    compute = choose_compute(config.training)
    geometry = geometry_of(config.model.geometry, model.image_size)
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in SCORES}
    was_training = model.training
    model.to(compute.device).eval()
    with cpu_threads(config.training.threads), compute.repeatable():
        for start in range(0, len(rows), at_once):
            batch = rows[start : start + at_once]
            pixels = shard.images(batch)
            codes = encode(model, geometry, pixels, shard.landmarks(batch))
            shown = decode(model, geometry, codes)
            error = (shown.astype(np.float64) - pixels) / 127.5
            parts["squared_error"].append((error**2).mean(axis=(1, 2, 3)))
            parts["l1"].append(np.abs(error).mean(axis=(1, 2, 3)))
            parts["psnr"].append(psnr(pixels, shown))
            parts["ssim"].append(ssim(pixels, shown))
    model.to("cpu").train(was_training)
    return {name: np.concatenate([np.zeros(0), *found]) for name, found in parts.items()}

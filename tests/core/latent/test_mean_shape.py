"""The mean shape's geometry at the size of the frame: a code draws its face again."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from facemorph_core.alignment.frame import FRAME_SIZE, NUM_SHAPE
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.metrics.psnr import psnr
from tests.core.alignment.test_warp import pictures, seeds, shapes


@settings(deadline=None, max_examples=10)
@given(seeds)
def test_a_code_of_the_mean_shape_draws_the_face_again(seed):
    geometry = geometry_of("mean_shape", FRAME_SIZE)
    faces = pictures(seed)
    seen = geometry.see(faces, shapes(seed, spread=0.6))
    assert seen.shape.shape == (2, NUM_SHAPE)
    codes = geometry.join(seen.shape, np.zeros((2, 7)))
    shape, texture = geometry.split(codes)
    assert texture.shape == (2, 7)
    assert psnr(faces, geometry.show(seen.pixels, shape)).min() > 30

"""The numbers of the canonical frame, made again."""

import numpy as np
import pytest

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.alignment.landmarks import DlibDetector
from tests.core.faces import CELEBA, needs_celeba
from tools.frame_numbers import detected_shapes, frame_numbers, one_photo_per_person


@pytest.mark.data
@needs_celeba
def test_the_shipped_numbers_come_out_again_from_celeba():
    photos = one_photo_per_person(CELEBA, photos=120)
    numbers = frame_numbers(list(detected_shapes(photos, DlibDetector())))
    distance = np.linalg.norm(numbers["mean_shape"] - mean_shape(), axis=1)
    assert distance.mean() < 0.6
    assert len({photo.person for photo in photos}) == 120

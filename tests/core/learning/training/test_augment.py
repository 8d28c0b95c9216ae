"""What is changed about faces while they are learned from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from facemorph_core.config.schema import PrivacyConfig, RunConfig, TrainingConfig
from facemorph_core.learning.losses.identity import on_unit_square
from facemorph_core.learning.training.augment import (
    augmented,
    in_other_light,
    in_other_surroundings,
    mirrored,
)
from facemorph_core.learning.training.batches import Batch
from facemorph_core.learning.training.streams import stream


def test_a_face_is_mirrored_left_to_right_about_every_other_time():
    images = torch.arange(4.0).expand(1000, 3, 4, 4)
    turned, weights, _ = mirrored(Batch(images, images[:, :1]), stream(0, "mirror"))
    flipped = turned[:, 0, 0, 0] == 3
    assert 400 < int(flipped.sum()) < 600
    assert torch.equal(turned[~flipped], images[~flipped])
    assert torch.equal(weights, turned[:, :1])
    assert mirrored(Batch(images, 1.0), stream(0, "mirror")).weights == 1.0


def test_the_identity_net_sees_a_mirrored_face_as_it_was():
    size = 128
    images = torch.rand(40, 3, size, size, generator=stream(0, "images"))
    places = torch.rand(8, 5, 5, 2, generator=stream(0, "places")) * (size - 1)
    turned, _, there = mirrored(Batch(images, 1.0, places), stream(0, "mirror"))
    assert there is not None
    assert not torch.equal(turned, images)
    before = F.grid_sample(images[:8], on_unit_square(places, size), align_corners=False)
    after = F.grid_sample(turned[:8], on_unit_square(there, size), align_corners=False)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-3)


def black_and_white(count: int, size: int) -> Batch:
    """Every other image is 1 everywhere and weighs 1, the others 0."""
    values = (torch.arange(count) % 2).float().view(-1, 1, 1, 1)
    return Batch(values.expand(count, 3, size, size), values.expand(count, 1, size, size))


def test_the_face_stays_and_what_is_far_from_it_comes_from_another_photo():
    batch = black_and_white(64, size=128)
    changed, weights, _ = in_other_surroundings(batch, 1.0, stream(0, "s"))
    own, face, corner = batch.images[:, 0, 0, 0], changed[:, 0, 75, 64], changed[:, 0, 0, 0]
    assert float((face - own).abs().max()) < 0.05
    from_the_other = (corner - own).abs() > 0.5
    assert 20 < int(from_the_other.sum()) < 44
    assert float((corner - corner.round()).abs().max()) < 0.3
    assert isinstance(weights, torch.Tensor)
    torch.testing.assert_close(weights, changed[:, :1])


def test_surroundings_change_for_about_the_share_that_was_asked_for():
    batch = black_and_white(600, size=32)
    changed, _, _ = in_other_surroundings(batch, 0.3, stream(0, "s"))
    touched = (changed != batch.images).flatten(1).any(dim=1)
    assert 0.1 < float(touched.float().mean()) < 0.2  # half of them meet their own colour


def test_other_light_keeps_the_range_and_stays_within_its_measure():
    images = torch.rand(200, 3, 8, 8, generator=stream(0, "images")) * 2 - 1
    lit = in_other_light(images, 0.15, stream(0, "light"))
    assert lit.min() >= -1
    assert lit.max() <= 1
    grey = torch.zeros(500, 3, 4, 4)
    levels = in_other_light(grey, 0.15, stream(0, "light"))
    assert float(levels.abs().max()) <= 0.15 + 0.15 + 0.05
    assert float(levels.mean(dim=(1, 2, 3)).std()) > 0.05
    assert float((levels[:, 0] - levels[:, 2]).abs().max()) <= 0.1
    for one in levels:
        assert torch.equal(one, one[:, :1, :1].expand_as(one))


def test_nothing_asked_for_changes_nothing_and_the_same_stream_changes_the_same():
    batch = Batch(torch.rand(4, 3, 32, 32, generator=stream(0, "images")), 1.0)
    off = TrainingConfig(mirror=False)
    assert augmented(batch, off, stream(0, "augment")) == batch
    on = TrainingConfig(surroundings=0.5, light=0.2)
    first, again, other = (augmented(batch, on, stream(seed, "augment")) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert first.weights == 1.0


def test_a_photo_may_not_show_a_part_of_another_under_differential_privacy():
    training = TrainingConfig(light=0.2)
    RunConfig(name="dp", training=training, privacy=PrivacyConfig(noise_multiplier=1.0))
    with pytest.raises(ValidationError, match=r"training\.surroundings is refused"):
        RunConfig(
            name="dp",
            training=training.model_copy(update={"surroundings": 0.5}),
            privacy=PrivacyConfig(noise_multiplier=1.0),
        )

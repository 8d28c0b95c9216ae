from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from facemorph_core.learning.losses import terms as losses
from facemorph_core.learning.models import Posterior

seeds = st.integers(0, 2**31)


def images(seed: int, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pair = torch.rand(2, count, 3, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    return pair[0], pair[1]


def posterior(seed: int, dim: int = 5) -> Posterior:
    generator = torch.Generator().manual_seed(seed)
    mean, log_var = torch.randn(2, 4, dim, generator=generator, dtype=torch.float64)
    return Posterior(mean, log_var)


@given(seed=seeds)
def test_kl_is_that_of_torch_distributions(seed):
    q = posterior(seed)
    reference = Independent(Normal(q.mean, (0.5 * q.log_var).exp()), 1)
    standard = Independent(Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean)), 1)
    torch.testing.assert_close(losses.kl(q), kl_divergence(reference, standard))


def test_kl_of_the_standard_normal_is_zero_and_a_shift_costs_half_its_square():
    zero = torch.zeros(1, 4)
    assert losses.kl(Posterior(zero, zero)).item() == 0
    assert losses.kl(Posterior(zero + 2, zero)).item() == pytest.approx(4 * 2.0)


@given(seed=seeds)
def test_kl_per_number_does_not_depend_on_how_often_the_numbers_are_repeated(seed):
    q = posterior(seed)
    twice = Posterior(q.mean.repeat(1, 2), q.log_var.repeat(1, 2))
    torch.testing.assert_close(losses.kl_per_number(q), losses.kl_per_number(twice))


@pytest.mark.parametrize("loss", [losses.l1, losses.squared])
@given(seed=seeds)
def test_reconstruction_terms_are_symmetric_zero_for_equal_images_and_per_image(loss, seed):
    a, b = images(seed)
    torch.testing.assert_close(loss(a, b), loss(b, a))
    assert torch.equal(loss(a, a), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(loss(a, b)[:1], loss(a[:1], b[:1]))


@given(seed=seeds)
def test_reconstruction_terms_are_the_means_of_torch(seed):
    a, b = images(seed, count=1)
    torch.testing.assert_close(losses.l1(a, b).squeeze(), torch.nn.functional.l1_loss(a, b))
    torch.testing.assert_close(losses.squared(a, b).squeeze(), torch.nn.functional.mse_loss(a, b))


@given(seed=seeds)
def test_latent_l2_is_the_mean_square(seed):
    code = posterior(seed).mean
    torch.testing.assert_close(losses.latent_l2(code), code.norm(dim=1) ** 2 / code.shape[1])


def test_a_perfect_discriminator_pays_nothing_and_the_generator_a_half():
    real, made = torch.ones(2, 3, 3), torch.zeros(4, 3, 3)
    assert losses.discriminator(real, made).tolist() == [0, 0]
    assert losses.adversarial(made).tolist() == [0.5] * 4


def test_a_fooled_discriminator_pays_a_half_however_many_images_were_made():
    ones = torch.ones(2, 3, 3)
    assert losses.discriminator(ones, torch.ones(2, 3, 3)).tolist() == [0.5, 0.5]
    assert losses.discriminator(ones, torch.ones(6, 3, 3)).tolist() == [0.5, 0.5]


def test_each_real_image_answers_for_its_own_made_images():
    made = torch.tensor([1.0, 0.0, 1.0, 0.0])[:, None, None].expand(4, 2, 2)
    assert losses.discriminator(torch.ones(2, 2, 2), made).tolist() == [0.5, 0.0]


def test_gradients_are_right():
    a, b = images(1, count=2)
    a, b = a[..., :2, :2], b[..., :2, :2]
    q = posterior(2, dim=2)
    mean, log_var = q.mean.requires_grad_(), q.log_var.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.squared(x, b), a.requires_grad_())
    assert torch.autograd.gradcheck(lambda m, v: losses.kl(Posterior(m, v)), (mean, log_var))
    scores = torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(losses.adversarial, scores)

"""What moves the weights: orthogonal steps for matrices, Adam's for the rest, and their memory."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from facemorph_core.config.schema import RunConfig, TrainingConfig, VAEConfig
from facemorph_core.errors import ModelError
from facemorph_core.learning.models import Autoencoder, build_model
from facemorph_core.learning.training.compute import Compute
from facemorph_core.learning.training.optimiser import Optimiser, flattened
from facemorph_core.learning.training.optimiser import muon as make_muon
from facemorph_core.learning.training.orthogonal import (
    COEFFICIENTS,
    ITERATIONS,
    LARGEST,
    orthogonal,
)

RATE = 1e-2
ROUGH, EXACT = (Compute(torch.device("cpu"), bfloat16) for bfloat16 in (True, False))
both_precisions = pytest.mark.parametrize("compute", [ROUGH, EXACT], ids=str)


def small_model(*, seed: int = 0) -> Autoencoder:
    config = VAEConfig(image_size=32, width=8, latent_dim=8)
    return build_model(config, seed=seed).to(memory_format=torch.channels_last)


def muon(module: torch.nn.Module, compute: Compute = EXACT) -> Optimiser:
    return Optimiser(module, TrainingConfig(optimiser="muon", learning_rate=RATE), compute)


def learn(model: Autoencoder, optimiser: Optimiser, *, step: int) -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
    model.zero_grad()
    made = model(images, torch.Generator().manual_seed(step))
    (made.images - images).square().mean().backward()
    optimiser.step()


@given(
    outputs=st.integers(1, 9),
    inputs=st.integers(1, 9),
    side=st.sampled_from([1, 3]),
    layout=st.sampled_from([torch.channels_last, torch.contiguous_format]),
)
def test_the_matrix_of_a_weight_is_the_weight(outputs, inputs, side, layout):
    conv = torch.nn.Conv2d(inputs, outputs, side).to(memory_format=layout)
    matrix = flattened(conv.weight)
    assert matrix.shape == (outputs, inputs * side * side)
    assert matrix.data_ptr() == conv.weight.data_ptr()
    matrix.zero_()
    assert (conv.weight == 0).all()


@both_precisions
@settings(deadline=None, max_examples=20)
@given(outputs=st.integers(2, 40), inputs=st.integers(2, 40), seed=st.integers(0, 99))
def test_a_step_goes_alike_in_every_direction_of_the_gradient(compute, outputs, inputs, seed):
    """Against a singular value decomposition: the same directions, all about as long."""
    layer = torch.nn.Linear(inputs, outputs, bias=False)
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, -1, min(outputs, inputs))
    u, _, vh = torch.linalg.svd(
        torch.randn(outputs, inputs, generator=generator), full_matrices=False
    )
    layer.weight.grad = u @ torch.diag(scales) @ vh
    before = layer.weight.detach().clone()
    muon(layer, compute).step()
    moved = (before - layer.weight.detach()) / (0.2 * RATE * max(outputs, inputs) ** 0.5)
    along = u.T @ moved @ vh.T
    assert along.diagonal().min() > 0.5
    assert along.diagonal().max() < 1.4
    assert (along - torch.diag(along.diagonal())).abs().max() < 0.15


@pytest.mark.parametrize(("dtype", "apart"), [(torch.bfloat16, 0.2), (torch.float32, 1e-3)])
@settings(deadline=None, max_examples=20)
@given(rows=st.integers(2, 60), columns=st.integers(2, 60), seed=st.integers(0, 99))
def test_steps_on_the_small_square_go_where_steps_on_the_long_matrix_go(
    dtype, apart, rows, columns, seed
):
    gradient = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    slow = as_it_is_written(gradient)
    assert (orthogonal([gradient], dtype=dtype)[0] - slow).norm() < apart * slow.norm()


@settings(deadline=None, max_examples=20)
@given(
    rows=st.integers(2, 60),
    columns=st.integers(2, 60),
    known=st.integers(1, 60),
    decades=st.floats(0, 6),
    seed=st.integers(0, 99),
)
def test_in_float32_weak_and_unknown_directions_come_out_right(rows, columns, known, decades, seed):
    """Errors of the small square grow from step to step: most where it is nearly singular."""
    generator = torch.Generator().manual_seed(seed)
    strength = torch.logspace(0, -decades, known)
    gradient = torch.randn(rows, known, generator=generator) * strength
    gradient @= torch.randn(known, columns, generator=generator)
    slow = as_it_is_written(gradient)
    fast = orthogonal([gradient], dtype=torch.float32)[0]
    assert (fast - slow).norm() < 1e-2 * slow.norm()


def as_it_is_written(gradient: torch.Tensor) -> torch.Tensor:
    """The iteration of the reference, in float64."""
    x = (gradient if len(gradient) <= gradient.shape[1] else gradient.T).double()
    x = x / x.norm()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x if len(gradient) <= gradient.shape[1] else x.T


@both_precisions
@pytest.mark.parametrize("shape", [(48, 432), (384, 200)])
def test_what_is_known_well_comes_out_about_as_long_as_one(shape, compute):
    """Singular values, block by block of at most LARGEST rows, between .7 and 1.2."""
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonal([gradient], dtype=compute.dtype)[0].double()
    made, gradient = (x if len(x) <= x.shape[1] else x.T for x in (made, gradient.double()))
    pieces = math.ceil(len(made) / LARGEST)
    for block, part in zip(made.chunk(pieces), gradient.chunk(pieces), strict=True):
        u, _, vh = torch.linalg.svd(part, full_matrices=False)
        along = u.T @ block @ vh.T
        assert along.diagonal().min() > 0.65
        assert along.diagonal().max() < 1.25
        assert (along - torch.diag(along.diagonal())).abs().max() < 0.1


@pytest.mark.parametrize("dtype", ITERATIONS)
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4)])
def test_no_gradient_is_no_direction(shape, dtype):
    made = orthogonal([torch.zeros(shape)], dtype=dtype)[0]
    assert torch.equal(made, torch.zeros(shape, dtype=dtype))


@both_precisions
def test_it_takes_up_the_memory_of_the_librarys_muon(compute):
    """Runs that were begun with it go on."""
    mine, theirs = (torch.nn.Linear(6, 4, bias=False) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    before = mine.weight.detach().clone()
    config = TrainingConfig(optimiser="muon", learning_rate=RATE)
    ours = make_muon(mine.parameters(), config, compute)
    librarys = torch.optim.Muon(
        theirs.parameters(), lr=RATE, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(4):
        gradient = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        mine.weight.grad, theirs.weight.grad = gradient, gradient.clone()
        ours.step()
        librarys.step()
    memory = ours.state[mine.weight], librarys.state[theirs.weight]
    assert memory[0].keys() == memory[1].keys()
    assert torch.equal(memory[0]["momentum_buffer"], memory[1]["momentum_buffer"])
    assert (mine.weight - theirs.weight).norm() < 0.1 * (mine.weight - before).norm()


def test_every_weight_moves_and_learns():
    model = small_model()
    optimiser = muon(model)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for step in range(3):
        learn(model, optimiser, step=step)
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert not still


def test_a_module_may_move_in_memory_under_its_optimiser():
    models, start = [small_model(), small_model()], list(small_model().parameters())
    optimisers = [muon(model) for model in models]
    models[1].to(memory_format=torch.contiguous_format)
    for model, optimiser in zip(models, optimisers, strict=True):
        learn(model, optimiser, step=0)
    ways = [
        torch.cat([(now - then).flatten() for now, then in zip(m.parameters(), start, strict=True)])
        for m in models
    ]
    assert torch.cosine_similarity(*ways, dim=0) > 0.98


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_it_goes_on_from_what_it_remembers(kind):
    config = TrainingConfig(optimiser=kind, learning_rate=RATE)
    first, second = small_model(), small_model(seed=1)
    kept = Optimiser(first, config, EXACT)
    for step in range(2):
        learn(first, kept, step=step)
    resumed = Optimiser(second, config, EXACT)
    second.load_state_dict(first.state_dict())
    resumed.restore({name: value.clone() for name, value in kept.tensors().items()})
    learn(first, kept, step=2)
    learn(second, resumed, step=2)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_the_memory_of_another_network_is_refused(kind):
    config = TrainingConfig(optimiser=kind)
    small, wide = torch.nn.Linear(3, 4), torch.nn.Linear(5, 4)
    kept = Optimiser(wide, config, EXACT)
    wide(torch.rand(1, 5)).sum().backward()
    kept.step()
    with pytest.raises(ModelError, match="does not fit the parameter"):
        Optimiser(small, config, EXACT).restore(kept.tensors())


def test_differential_privacy_keeps_to_adam():
    with pytest.raises(ValidationError, match="optimiser 'muon' is refused"):
        RunConfig.model_validate(
            {
                "name": "x",
                "training": {"optimiser": "muon"},
                "privacy": {"noise_multiplier": 1.0, "max_grad_norm": 1.0},
            }
        )

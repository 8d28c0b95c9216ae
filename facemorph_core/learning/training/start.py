"""The weights that a run starts from: fresh ones, or those of a finished model."""

from __future__ import annotations

import torch

from facemorph_core.bundle.find import find_model
from facemorph_core.bundle.read import Bundle, open_bundle
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ModelError
from facemorph_core.learning.federated.update import load_shared_weights
from facemorph_core.learning.models import Autoencoder, build_model


def starting_model(config: RunConfig) -> Autoencoder:
    """The config's model at the start of its run.

    Raises:
        ModelError: ``config.start`` names no model, or one of another layout.
    """
    model = build_model(config.model, seed=config.seed)
    if config.start:
        _take_over(model, open_bundle(find_model(config.start)), config)
    return model


def _take_over(model: Autoencoder, bundle: Bundle, config: RunConfig) -> None:
    theirs, ours = bundle.manifest, config.model
    hint = (
        "give the config the model section that the bundle was trained with: "
        f"`facemorph-core inspect {config.start}` shows it"
    )
    if (theirs.geometry, theirs.latent_dim) != (ours.geometry, ours.latent_dim):
        raise ModelError(
            f"the model '{theirs.name}' to start from has {theirs.latent_dim} numbers "
            f"({theirs.geometry}), the config asks for {ours.latent_dim} ({ours.geometry})",
            hint=hint,
        )
    weights = {
        name: torch.from_numpy(value.copy()).contiguous()
        for name, value in bundle.weights().items()
    }
    try:
        load_shared_weights(model, weights)
    except ModelError as error:
        raise ModelError(
            f"the model '{theirs.name}' cannot be started from: {error}",
            hint=hint,
        ) from None

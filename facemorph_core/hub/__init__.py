"""The client of the model hub: names go out, verified bundles come in, photos stay here."""

from __future__ import annotations

import importlib.util
import os

from facemorph_core.errors import MissingExtra

if importlib.util.find_spec("grpc") is None:
    raise MissingExtra("hub", needed_for="a model hub")

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its handshake chatter would reach the user

from facemorph_core.hub.client import describe, fetch, list_models, pinned

__all__ = ["describe", "fetch", "list_models", "pinned"]

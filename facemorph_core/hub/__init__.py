"""The client of the model hub: names go out, verified bundles come in, photos stay here."""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its handshake chatter would reach the user

from facemorph_core.hub.client import describe, fetch, list_models, pinned

__all__ = ["describe", "fetch", "list_models", "pinned"]

"""The file a model travels in: written once, verified whenever it is read."""

from facemorph_core.bundle.manifest import Manifest
from facemorph_core.bundle.read import Bundle, open_bundle, verify

__all__ = ["Bundle", "Manifest", "open_bundle", "verify"]

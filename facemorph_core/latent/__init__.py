"""Ways through the space of codes."""

from facemorph_core.latent.interpolate import lerp, path, slerp

__all__ = ["lerp", "path", "slerp"]

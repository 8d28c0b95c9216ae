"""A model outside this program: graphs for other runtimes, fewer bits, how fast it runs here."""

import importlib.util

from facemorph_core.errors import MissingExtra

if importlib.util.find_spec("onnx") is None:
    raise MissingExtra("export", needed_for="making graphs for other runtimes")

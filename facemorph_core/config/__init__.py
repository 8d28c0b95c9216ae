"""The resolved config of a run: schema and the only reader of YAML."""

from facemorph_core.config.load import digest, dump_run_config, load_run_config
from facemorph_core.config.schema import RunConfig

__all__ = ["RunConfig", "digest", "dump_run_config", "load_run_config"]

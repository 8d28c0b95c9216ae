"""What a simulation takes of the machine: the cores that it may use, and no Ray but its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from facemorph_core.machine.cores import available_cores

log = logging.getLogger(__name__)

OF_ANOTHER_RAY = (
    "RAY_ADDRESS",
    "RAY_CLIENT_MODE",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_NAMESPACE",
    "RAY_REDIS_ADDRESS",
    "RAY_RUNTIME_ENV_HOOK",
)
"""Variables that name a cluster, or what its jobs get: the pods and jobs of one have them set."""


def without_another_ray(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` in which Ray starts here, and takes neither code nor photos to a cluster.

    How Ray is to use memory, and the like, may still be set.
    """
    return {name: said for name, said in environment.items() if name not in OF_ANOTHER_RAY}


def federation_settings(sites: int, cpus_per_site: int) -> str:
    """Flower's ``--federation-config`` for so many sites, of which each takes so many cores.

    Left alone, Ray counts all cores that it sees, whoever may use them, and Flower starts a
    process for each.
    """
    cores = available_cores()
    if cpus_per_site > cores:
        log.warning(
            "--cpus %d is more than there are: a site at work takes %d", cpus_per_site, cores
        )
        cpus_per_site = cores
    return (
        f"num-supernodes={sites} init-args-num-cpus={min(cores, cpus_per_site * sites)} "
        f"client-resources-num-cpus={cpus_per_site} client-resources-num-gpus=0.0"
    )

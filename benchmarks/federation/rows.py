"""The rows: a base of eight equal sites, and what changes one thing about it.

One process with all photos does best with another batch and learning rate than a site: central
training stands there with its own and with a site's. Every row sees the same number of images.
Where a round holds fewer or more of them than the base's, there are more or fewer rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from facemorph_core.config import RunConfig, load_run_config

__all__ = ["BASE", "CENTRAL", "Setting", "config_of", "settings"]

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "federation.yaml"
CENTRAL, BASE = "central", "base"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row before it is trained."""

    name: str
    label: str
    changes: tuple[str, ...] = ()
    """Settings that differ from the base's, as KEY=VALUE."""
    images: float = field(default=1.0)
    """Images of a round, in units of the base's."""
    central: bool = False
    """Trained in one process with all photos."""


def settings() -> list[Setting]:
    """All rows, in the order of the table."""
    return [
        Setting(
            CENTRAL,
            "central",
            ("training.batch_size=16", "training.learning_rate=2e-3"),
            central=True,
        ),
        Setting("central-alike", "central, batch and learning rate of a site", central=True),
        Setting(BASE, "8 sites by person"),
        Setting(
            "dirichlet",
            "Dirichlet(0.3) over Male",
            ("data.partition={kind: dirichlet, attribute: Male, alpha: 0.3}",),
        ),
        Setting("unequal", "very unequal sizes", ("data.partition={kind: quantity, alpha: 0.3}",)),
        Setting("fedprox", "FedProx", ("federation.strategy={kind: fedprox, mu: 1e-5}",)),
        Setting(
            "fedadam",
            "FedAdam",
            (
                "federation.strategy={kind: fedadam, learning_rate: 0.06, tau: 0.03, beta_1: 0, "
                "beta_2: 0.9}",
            ),
        ),
        Setting("epochs-5", "5 local epochs", ("federation.local_epochs=5",), images=5.0),
        Setting("ema", "running mean on the server", ("federation.ema_decay=0.9",)),
        Setting("half", "half of the sites a round", ("federation.fraction=0.5",), images=0.5),
        Setting("float16", "float16 updates", ("federation.codec=float16",)),
        Setting("int8", "int8 updates", ("federation.codec=int8",)),
    ]


def config_of(setting: Setting, faces: Path, *, seed: int, rounds: int) -> RunConfig:
    """The config of a row that trains on the shard ``faces``."""
    return load_run_config(CONFIG, overrides_of(setting, faces, seed=seed, rounds=rounds))


def overrides_of(setting: Setting, faces: Path, *, seed: int, rounds: int) -> list[str]:
    """What a row changes about the file of the base; ``rounds`` are the base's."""
    return [
        *(f"name={setting.name}-seed{seed}", f"seed={seed}"),
        *("data.source=shard", f"data.path={faces}"),
        f"federation.rounds={max(1, round(rounds / setting.images))}",
        *setting.changes,
    ]

"""What a site allows, whatever a run asks for: `site.yaml`, which no coordinator sends.

Config and overrides come from the coordinator, who could ask for training without noise. A site's
own limits lie on the site's disk, and what goes past them is refused before a photo is read.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from facemorph_core.config.load import load_section
from facemorph_core.config.schema import Count, NonNegative, Positive, Real, RunConfig, Section
from facemorph_core.errors import DeltaTooLarge, LimitsExceeded
from facemorph_core.learning.privacy.site_ledger import SiteLedger
from facemorph_core.learning.privacy.unit import Unit, words_for

DAY = timedelta(days=1)


class SiteLimits(Section):
    """The limits of one site. Without a file it has the defaults: nothing leaves without noise.

    Examples:
        >>> limits = SiteLimits(max_epsilon=3.0)
        >>> limits.check_faces(photos=40, people=2)
        Traceback (most recent call last):
        facemorph_core.errors.LimitsExceeded: min_trained_people: 5, and the shard has 2 to train on
    """

    privacy: Literal["required", "optional"] = "required"
    """required: only rounds under differential privacy are answered; optional: others too, and
    for the photos that took part no finite epsilon is claimed ever after."""
    min_noise_multiplier: NonNegative = 0.5
    """Least noise of training under differential privacy."""
    max_epsilon: Positive = 8.0
    """Most that may ever be spent on a photo, over all runs, at `max_delta` or a smaller delta."""
    max_delta: Annotated[Real, Field(gt=0, le=0.5)] = 1e-5
    """A run's delta is lowered to this one, and to the smallest that these photos were ever
    released at."""
    min_trained_photos: Count = 20
    """Updates come from training on so many photos at least, as that on one photo is the photo,
    and who is among eight can be told for sure."""
    min_trained_people: Count = 5
    """Updates come from training on photos of so many people at least."""
    scoring: Literal["never", "noised", "plain"] = "never"
    """Whether models are scored on the photos kept aside: never, only in sums with noise, or, in
    rounds without differential privacy, also in plain sums."""
    min_scoring_noise: NonNegative = 2.0
    """Least noise of the sums of scores."""
    min_scored_people: Count = 20
    """Scores are sums over the photos of so many people at least."""
    max_releases_a_day: Count = 100
    """Answers to training and scoring within 24 hours."""

    @classmethod
    def of_a_simulation(cls) -> SiteLimits:
        """None of them: in a simulation the photos belong to whoever runs it."""
        return cls(
            privacy="optional",
            min_noise_multiplier=0.0,
            max_epsilon=1e9,
            max_delta=0.5,
            min_trained_photos=1,
            min_trained_people=1,
            scoring="plain",
            min_scoring_noise=0.0,
            min_scored_people=1,
            max_releases_a_day=10**9,
        )

    def check_training(self, config: RunConfig, ledger: SiteLedger) -> None:
        """Refuse a round that goes past them.

        Raises:
            LimitsExceeded: with the setting of this site and what was asked for.
        """
        if config.privacy is None:
            self._check_plain("training")
        elif config.privacy.noise_multiplier < self.min_noise_multiplier:
            raise _too_little("min_noise_multiplier", self, config.privacy.noise_multiplier)
        self._check_day(ledger)

    def check_faces(self, *, photos: int, people: int) -> None:
        """Refuse to train on too few photos, or photos of too few people.

        Raises:
            LimitsExceeded: with the setting of this site.
        """
        for name, found in (("min_trained_photos", photos), ("min_trained_people", people)):
            least = getattr(self, name)
            if found < least:
                raise LimitsExceeded(f"{name}: {least}, and the shard has {found} to train on")

    def check_scoring(self, config: RunConfig, ledger: SiteLedger, *, people: int) -> None:
        """Refuse scores that go past them; ``people`` are those whose photos are scored.

        Raises:
            LimitsExceeded: with the setting of this site and what was asked for.
        """
        private = config.privacy
        if self.scoring == "never":
            raise LimitsExceeded("scoring: never, and scores were asked for")
        if private is None:
            self._check_plain("scoring")
            if self.scoring != "plain":
                raise LimitsExceeded("scoring: noised, and scores without noise were asked for")
        elif private.scoring is None:
            raise LimitsExceeded("scores were asked for under a config without privacy.scoring")
        elif private.scoring.noise_multiplier < self.min_scoring_noise:
            raise _too_little("min_scoring_noise", self, private.scoring.noise_multiplier)
        asked = private.scoring.people if private is not None and private.scoring else 1
        least = max(self.min_scored_people, asked)
        if people < least:
            raise LimitsExceeded(f"scores are sums over {least} people, and these are {people}")
        self._check_day(ledger)

    def delta(self, asked: float, unit: Unit, *, count: int) -> float:
        """The delta at which a release that is computed from so many units is charged.

        Raises:
            DeltaTooLarge: it is not below one over their number.
        """
        delta = min(asked, self.max_delta)
        if delta * count >= 1:
            raise DeltaTooLarge(delta=delta, count=count, units=words_for(unit).many)
        return delta

    def epsilon(self, asked: float) -> float:
        """What may be spent in all."""
        return min(asked, self.max_epsilon)

    def _check_plain(self, what: str) -> None:
        if self.privacy == "required":
            raise LimitsExceeded(
                f"privacy: required, and {what} without differential privacy was asked for",
                hint="a site that agrees writes 'privacy: optional' into its site.yaml",
            )

    def _check_day(self, ledger: SiteLedger) -> None:
        if ledger.releases_within(DAY) >= self.max_releases_a_day:
            raise LimitsExceeded(f"max_releases_a_day: {self.max_releases_a_day} are reached")


def load_limits(file: Path, *, needed: bool = False) -> SiteLimits:
    """The limits in ``file``; the defaults, which are strict, without one unless it is ``needed``.

    Raises:
        ConfigError: with one line for each mistake: no limit is guessed.
    """
    return load_section(file, SiteLimits) if needed or file.exists() else SiteLimits()


def _too_little(name: str, limits: SiteLimits, asked: float) -> LimitsExceeded:
    return LimitsExceeded(f"{name}: {getattr(limits, name):g}, and {asked:g} was asked for")

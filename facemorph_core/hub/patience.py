"""How often and for how long a hub is asked again.

One that says that it is busy works for others, and is asked for as long as the whole may take. One
that is there and not available, because it starts or stops, is asked until nothing has come for
AWAY_SECONDS. Both after pauses that double on average; each is a random part of the longest (full
jitter), so that a crowd that was sent away together does not come back together. One that cannot be
reached is tried a few times at once, and where waiting helps nothing, it is not even tried again.

References:
    | Exponential backoff and jitter (Brooker, 2015)
    | https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from facemorph_core.errors import HubBusy, HubUnreachable, HubUnusable

__all__ = ["HubAway", "Retries"]

log = logging.getLogger(__name__)

AWAY_SECONDS = 120.0
WAIT_PAUSES = (1.0, 10.0)
"""The longest that the first pause may be, and any."""
TRIES = 3
"""Of a hub that cannot be reached, or that sends next to nothing."""
TRY_PAUSES = (0.5, 1.0)


class HubAway(HubBusy):
    """Something is there, and no hub says that it is busy."""


class Retries:
    """Of one hub, for one thing that is wanted from it within so many seconds."""

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._end = clock() + seconds
        self._said: set[type[HubBusy]] = set()
        self._begin()

    def after(self, error: HubUnreachable, *, went_on: bool = False) -> None:
        """Wait before the next try; ``went_on`` says that the last one brought something.

        Raises:
            HubUnreachable: ``error``, if there is to be no next try.
        """
        if went_on:
            self._begin()
        if isinstance(error, HubUnusable):
            raise error
        if isinstance(error, HubBusy):
            self._wait_for_room(error)
        else:
            self._wait_briefly(error, went_on)

    def _begin(self) -> None:
        self._since, self._waited, self._failed = self._clock(), 0, 0

    def _wait_for_room(self, error: HubBusy) -> None:
        now = self._clock()
        end = self._end
        if isinstance(error, HubAway):
            end = min(end, self._since + AWAY_SECONDS)
        else:
            self._since = now  # it is there, and says so
        left = end - now
        if left <= 0:
            raise error
        self._say(error, left)
        self._pause(self._waited, WAIT_PAUSES, most=left)
        self._waited += 1

    def _say(self, error: HubBusy, seconds: float) -> None:
        if type(error) not in self._said:
            self._said.add(type(error))
            log.warning("%s; asking again for up to %.0f min", error, max(seconds / 60, 1))

    def _wait_briefly(self, error: HubUnreachable, went_on: bool) -> None:
        self._failed += not went_on
        if self._failed >= TRIES:
            raise error
        log.info("%s; trying again", error)
        self._pause(self._failed, TRY_PAUSES)

    def _pause(self, number: int, pauses: tuple[float, float], most: float = AWAY_SECONDS) -> None:
        first, longest = pauses
        self._sleep(min(random.uniform(0, min(first * 2.0 ** min(number, 10), longest)), most))

"""How often and for how long a hub is asked again.

One that is busy is asked until nothing has come for BUSY_SECONDS, after pauses that double on
average. Each is a random part of the longest (full jitter), so that a crowd that was sent away
together does not come back together. One that cannot be reached is tried a few times at once, and
where waiting helps nothing, it is not even tried again.

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

__all__ = ["Patience"]

log = logging.getLogger(__name__)

BUSY_SECONDS = 120.0
BUSY_PAUSES = (1.0, 10.0)
"""The longest that the first pause may be, and any."""
TRIES = 3
"""Of a hub that cannot be reached, or that sends next to nothing."""
TRY_PAUSES = (0.5, 1.0)


class Patience:
    """With one hub, for one thing that is wanted from it."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._said = False
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
        self._since, self._busy, self._failed = self._clock(), 0, 0

    def _wait_for_room(self, error: HubBusy) -> None:
        left = self._since + BUSY_SECONDS - self._clock()
        if left <= 0:
            raise error
        if not self._said:
            log.warning("%s; asking again for up to %.0f s", error, BUSY_SECONDS)
            self._said = True
        self._pause(self._busy, BUSY_PAUSES, most=left)
        self._busy += 1

    def _wait_briefly(self, error: HubUnreachable, went_on: bool) -> None:
        self._failed += not went_on
        if self._failed >= TRIES:
            raise error
        log.info("%s; trying again", error)
        self._pause(self._failed, TRY_PAUSES)

    def _pause(self, number: int, pauses: tuple[float, float], most: float = BUSY_SECONDS) -> None:
        first, longest = pauses
        self._sleep(min(random.uniform(0, min(first * 2.0**number, longest)), most))

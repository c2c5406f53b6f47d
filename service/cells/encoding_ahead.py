"""Encodes frames before users ask for them, while the model is idle."""

import asyncio
import time
from collections.abc import Callable

from service.background import BlockingCalls
from service.inference.engine import MateformerEngine

PERIOD_S = 0.05
_SHARE = 0.2  # of one core, at most


class EncodingAhead:
    """The job that encodes the tiles around those that users enter, and prepares cells that were loaded, bit by bit.

    For the event loop's thread.
    """

    def __init__(self, engine: Callable[[], MateformerEngine]) -> None:
        """`engine` returns the one in service."""
        self._engine = engine
        self._calls = BlockingCalls("frames ahead")

    async def run_job(self) -> None:
        """Encodes one frame or describes some fingerprints, unless the model is busy or nothing is likely to be wanted.

        Raises `InferenceFailed`, `OutOfMemory` or `JobFailed`.
        """
        engine = self._engine()
        if not engine.estimator.ahead.may_encode or not engine.dispatcher.is_idle:
            return
        started = time.monotonic()
        if await self._calls.run(engine.estimator.ahead.encode_next):
            await asyncio.sleep((time.monotonic() - started) * (1 / _SHARE - 1))

"""The last answers of each API key, so that operators can score them. Kept for a bounded time, and only if the settings
say so: where people were is personal.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple, Protocol, Self

import msgspec

from service.locating.answers import Answer


class GivenAnswer(NamedTuple):
    """What a user was answered: a position in the frame of a cell, the ellipse around it, and where it comes from.

    `x`, `y` and half axes in metres, `orientation_deg` of the major one clockwise from north, `confidence` in per cent.
    `source` is the method, mostly a model family.
    """

    x: float
    y: float
    semi_major: float
    semi_minor: float
    orientation_deg: int
    confidence: int
    source: str
    cell_version: str
    artifact: str

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """With the ellipse at the confidence of the service, not at the caller's, so that scores can be compared."""
        (x, y), (ellipse, confidence) = answer.location.position.tolist(), answer.usual
        source = answer.location.described
        return cls(
            x,
            y,
            *ellipse,
            confidence,
            source["source"],
            source["cellVersion"],
            (source.get("artifact") or {}).get("digest", ""),  # some sources have no model
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`. Raises `ValueError`."""
        try:
            return cls(*msgspec.msgpack.decode(data))
        except (msgspec.DecodeError, TypeError) as error:
            raise ValueError(str(error)) from error

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(tuple(self))


class AnswerName(NamedTuple):
    """An answer of one cell. `owner` is the public id of the API key that asked, empty without keys."""

    cell_id: str
    owner: str
    request_id: str


class RecentAnswers(Protocol):
    """Any thread may call `note`; everything else belongs to the event loop's thread."""

    def note(self, named: Mapping[AnswerName, GivenAnswer]) -> None:
        """Remembers answers. Does not wait, and raises nothing: where that fails the answers are not remembered."""

    async def find(self, names: Sequence[AnswerName]) -> list[GivenAnswer | None]:
        """The last answer of each name, None where it is not remembered. Raises `AnswersUnavailable`."""

    def close(self) -> None:
        """Drops the connection, and the answers that only this process holds."""


def name_answers(owner: str, answers: Iterable[Answer]) -> dict[AnswerName, GivenAnswer]:
    """The answers with a requestId, by name."""
    named = {}
    for answer in answers:
        if (request_id := answer.body.get("requestId")) is not None:
            named[AnswerName(answer.location.cell.cell_id, owner, request_id)] = GivenAnswer.of(answer)
    return named


class MemoryRecentAnswers:
    """Answers of this process: the last `limit` of each owner, each for `ttl_s` seconds."""

    def __init__(self, ttl_s: float, limit: int) -> None:
        self._ttl = ttl_s
        self._limit = limit
        self._lock = Lock()
        # By owner, the oldest first, with the moment of `time.monotonic` from which on it is forgotten.
        self._kept: defaultdict[str, OrderedDict[AnswerName, tuple[float, GivenAnswer]]] = defaultdict(OrderedDict)

    def note(self, named: Mapping[AnswerName, GivenAnswer]) -> None:
        now = time.monotonic()
        with self._lock:
            for name, answer in named.items():
                kept = self._kept[name.owner]
                kept.pop(name, None)
                kept[name] = now + self._ttl, answer
                if len(kept) > self._limit:
                    kept.popitem(last=False)
            self._forget(now)

    async def find(self, names: Sequence[AnswerName]) -> list[GivenAnswer | None]:
        with self._lock:
            self._forget(time.monotonic())
            found = [self._kept[name.owner].get(name) if name.owner in self._kept else None for name in names]
        return [None if one is None else one[1] for one in found]

    async def forget_old(self) -> None:
        """Drops expired answers when no request arrives either."""
        with self._lock:
            self._forget(time.monotonic())

    def close(self) -> None:
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def _forget(self, now: float) -> None:
        for owner, kept in list(self._kept.items()):
            while kept and next(iter(kept.values()))[0] <= now:
                kept.popitem(last=False)
            if not kept:
                del self._kept[owner]

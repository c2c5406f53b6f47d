"""The client of a soak: requests, the statuses that are right for them, and a tally of the answers."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from dataclasses import dataclass, field

OK = frozenset({200})

_TIMEOUT_S = 120.0
_CONNECTION = 50  # requests on one connection


@dataclass(frozen=True)
class Request:
    """A request. `kind`: its row in the report. `statuses`: the right ones. `half`: the client disconnects half-way."""

    kind: str
    method: str
    path: str
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    statuses: frozenset[int] = OK
    half: bool = False


@dataclass
class Tally:
    """The answers of all clients: seconds of each kind, counts of statuses, texts of wrong answers."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(map(len, self.seconds.values()))


class SoakClient:
    """A client with its own connection, which it renews now and then."""

    def __init__(self, port: int, headers: dict[str, str], tally: Tally) -> None:
        self._port, self._headers, self._tally = port, headers, tally
        self._connection = self._connected()
        self._sent = 0

    def send(self, one: Request) -> bytes:
        """Sends a request and returns the answer's body. Counts a wrong answer in the tally."""
        if self._sent == _CONNECTION:
            self._renew()
        self._sent += 1
        started = time.perf_counter()
        if one.half:
            self._hang_up(one)
            status, body = None, b""
        else:
            self._connection.request(one.method, one.path, one.content or None, self._headers | one.headers)
            response = self._connection.getresponse()
            status, body = response.status, response.read()
            self._tally.statuses[status] += 1
        self._tally.seconds.setdefault(one.kind, []).append(time.perf_counter() - started)
        if status is not None and status not in one.statuses:
            self._tally.wrong.append(f"{one.kind}: {status} {body[:300]!r}")
        return body

    def location(self, one: Request) -> tuple[float, float]:
        """The position in a JSON answer, in metres east and north of the base station; NaN without one."""
        body = self.send(one)
        try:
            point = json.loads(body)["localLocationEstimate"]["point"]
        except (ValueError, KeyError):
            return float("nan"), float("nan")
        return point["x"], point["y"]

    def close(self) -> None:
        self._connection.close()

    def _hang_up(self, one: Request) -> None:
        self._connection.putrequest(one.method, one.path)
        for name, value in (self._headers | one.headers | {"Content-Length": str(len(one.content))}).items():
            self._connection.putheader(name, value)
        self._connection.endheaders(one.content[: len(one.content) // 2])
        self._renew()

    def _renew(self) -> None:
        self._connection.close()
        self._connection = self._connected()
        self._sent = 0

    def _connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)

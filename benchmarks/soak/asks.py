"""What is asked of the service in a soak, and what must be answered."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from dataclasses import dataclass, field

OK = frozenset({200})

_TIMEOUT_S = 120.0
_CONNECTION = 50  # requests, then another one is made


@dataclass(frozen=True)
class Ask:
    """A request; `kind` is for the report. `statuses`: the right ones. `half`: its sender hangs up in the midst."""

    kind: str
    method: str
    path: str
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    statuses: frozenset[int] = OK
    half: bool = False


@dataclass
class Account:
    """What was answered: times of one kind in seconds, and whatever was not as it should be."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(map(len, self.seconds.values()))


class Asker:
    """One client with a connection of its own, which it leaves for a new one now and then."""

    def __init__(self, port: int, headers: dict[str, str], account: Account) -> None:
        self._port, self._headers, self._account = port, headers, account
        self._connection = self._connected()
        self._asked = 0

    def ask(self, one: Ask) -> bytes:
        """The answer's body; what is wrong with the answer goes to the account."""
        if self._asked == _CONNECTION:
            self._renew()
        self._asked += 1
        started = time.perf_counter()
        if one.half:
            self._hang_up(one)
            status, body = None, b""
        else:
            self._connection.request(one.method, one.path, one.content or None, self._headers | one.headers)
            response = self._connection.getresponse()
            status, body = response.status, response.read()
            self._account.statuses[status] += 1
        self._account.seconds.setdefault(one.kind, []).append(time.perf_counter() - started)
        if status is not None and status not in one.statuses:
            self._account.wrong.append(f"{one.kind}: {status} {body[:300]!r}")
        return body

    def location(self, one: Ask) -> tuple[float, float]:
        """Metres east and north of the base station, of an answer in JSON; not a number where there is none."""
        body = self.ask(one)
        try:
            point = json.loads(body)["localLocationEstimate"]["point"]
        except (ValueError, KeyError):
            return float("nan"), float("nan")
        return point["x"], point["y"]

    def close(self) -> None:
        self._connection.close()

    def _hang_up(self, one: Ask) -> None:
        self._connection.putrequest(one.method, one.path)
        for name, value in (self._headers | one.headers | {"Content-Length": str(len(one.content))}).items():
            self._connection.putheader(name, value)
        self._connection.endheaders(one.content[: len(one.content) // 2])
        self._renew()

    def _renew(self) -> None:
        self._connection.close()
        self._connection = self._connected()
        self._asked = 0

    def _connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)

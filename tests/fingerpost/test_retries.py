from datetime import UTC, datetime

import httpx
import pytest

from fingerpost.retries import Attempts

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def attempts(tries: int = 5, chance: float = 0.0) -> Attempts:
    return Attempts(tries, 10.0, lambda: chance)


def busy(status: int = 503, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 500, 502, 504])
def test_what_is_said_for_good_is_not_asked_again(status: int) -> None:
    assert attempts().wait_after(httpx.Response(status)) is None


@pytest.mark.parametrize("status", [429, 503])
def test_the_service_says_how_long_to_wait(status: int) -> None:
    assert attempts().wait_after(busy(status, retry_after="3")) == 3.0
    assert attempts().wait_after(busy(status, retry_after="Thu, 01 Jan 2026 00:00:07 GMT"), NOW) == 7.0
    assert attempts().wait_after(busy(status, retry_after="Wed, 31 Dec 2025 23:00:00 GMT"), NOW) == 0.0


@pytest.mark.parametrize("retry_after", ["", "soon", "-1", "1.5", "0x10", "Thu, 99 Jan 2026 00:00:07 GMT"])
def test_where_it_does_not_say_each_wait_is_twice_the_one_before(retry_after: str) -> None:
    trying = attempts()
    assert [trying.wait_after(busy(retry_after=retry_after), NOW) for _ in range(5)] == [0.1, 0.2, 0.4, 0.8, None]


def test_nobody_waits_longer_than_he_would() -> None:
    assert attempts().wait_after(busy(retry_after="11")) is None
    assert attempts().wait_after(busy(retry_after="9" * 30)) is None


def test_those_refused_together_do_not_come_again_together() -> None:
    waits = [attempts(chance=chance).wait_after(busy(retry_after="4")) for chance in (0.0, 0.5, 1.0)]
    assert waits == [4.0, 4.5, 5.0]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (httpx.ConnectError, True),
        (httpx.ConnectTimeout, True),
        (httpx.ReadError, True),
        (httpx.RemoteProtocolError, True),
        (httpx.ReadTimeout, False),
        (httpx.UnsupportedProtocol, False),
    ],
)
def test_a_broken_connection_is_made_again_a_slow_one_is_not(error: type[httpx.TransportError], again: bool) -> None:
    assert (attempts().wait_after(error("")) is not None) == again

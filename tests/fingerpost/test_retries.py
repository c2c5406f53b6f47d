from datetime import UTC, datetime

import httpx
import pytest

from fingerpost.retries import Retries

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def retries(tries: int = 5, share: float = 0.0) -> Retries:
    return Retries(tries, 10.0, lambda: share)


def busy(status: int = 503, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 500, 502, 504])
def test_a_final_status_is_not_tried_again(status: int) -> None:
    assert retries().wait_after(httpx.Response(status)) is None


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_sets_the_wait(status: int) -> None:
    assert retries().wait_after(busy(status, retry_after="3")) == 3.0
    assert retries().wait_after(busy(status, retry_after="Thu, 01 Jan 2026 00:00:07 GMT"), NOW) == 7.0
    assert retries().wait_after(busy(status, retry_after="Wed, 31 Dec 2025 23:00:00 GMT"), NOW) == 0.0


@pytest.mark.parametrize("retry_after", ["", "soon", "-1", "1.5", "0x10", "Thu, 99 Jan 2026 00:00:07 GMT"])
def test_without_retry_after_each_wait_is_twice_the_one_before(retry_after: str) -> None:
    counter = retries()
    assert [counter.wait_after(busy(retry_after=retry_after), NOW) for _ in range(5)] == [0.1, 0.2, 0.4, 0.8, None]


def test_a_wait_longer_than_the_limit_ends_the_tries() -> None:
    assert retries().wait_after(busy(retry_after="11")) is None
    assert retries().wait_after(busy(retry_after="9" * 30)) is None


def test_a_random_share_spreads_the_waits() -> None:
    waits = [retries(share=share).wait_after(busy(retry_after="4")) for share in (0.0, 0.5, 1.0)]
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
def test_a_broken_connection_is_tried_again_a_timeout_is_not(error: type[httpx.TransportError], again: bool) -> None:
    assert (retries().wait_after(error("")) is not None) == again


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (httpx.Response(429), True),
        (httpx.Response(503), False),
        (httpx.ConnectError(""), True),
        (httpx.ConnectTimeout(""), True),
        (httpx.ReadError(""), False),
        (httpx.RemoteProtocolError(""), False),
    ],
)
def test_what_must_not_happen_twice_is_tried_again_only_if_it_has_not_happened(
    outcome: httpx.Response | httpx.RequestError, again: bool
) -> None:
    careful = Retries(2, 10.0, harmless=False)
    assert (careful.wait_after(outcome) is not None) == again

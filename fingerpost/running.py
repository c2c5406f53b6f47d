"""Runs exchanges over HTTP: blocking, and for asyncio."""

import asyncio
import inspect
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import closing
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypedDict, TypeVar, get_args

import httpx

from fingerpost.errors import NoAnswer
from fingerpost.exchange import Attempt, Exchange, Item, Outcome, Page, Result, with_retries
from fingerpost.head_deadline import limit_head, limit_head_async

_SLOW_S = 3600.0  # the service may publish for minutes before it answers
_LATE_S = 1.0  # after a request's deadline, for the service to say that it has passed
_CHUNK_BYTES = 2**18

P = ParamSpec("P")
Method = TypeVar("Method", bound=Callable[..., Any])


class BlockingRunner:
    """Sends requests one after the other over `http`."""

    def __init__(self, http: httpx.Client, tries: int) -> None:
        self._http = http
        self._tries = tries

    def _run(self, exchange: Exchange[Result]) -> Result:
        with closing(with_retries(exchange, self._tries)) as running:
            if self._http.is_closed:
                raise NoAnswer("the client is closed")
            try:
                attempt = next(running)
                while True:
                    time.sleep(attempt.pause_s)
                    attempt = running.send(self._send(attempt))
            except StopIteration as end:
                result: Result = end.value
                return result

    def _send(self, attempt: Attempt) -> Outcome:
        content = attempt.content if isinstance(attempt.content, bytes) else _read(attempt.content)
        options, longest_s = request_options(attempt, self._http.timeout), _longest_read_s(attempt, self._http.timeout)
        try:
            with (
                limit_head(self._http, longest_s) as extensions,
                self._http.stream(content=content, extensions=extensions, **options) as response,
            ):
                if attempt.into is None or not response.is_success:
                    response.stream = _TimedStream(response.stream, _Timer(attempt, self._http.timeout))
                    response.read()
                else:
                    with attempt.into.open("wb") as file:
                        for chunk in response.iter_bytes(_CHUNK_BYTES):
                            file.write(chunk)
                return response
        except httpx.RequestError as error:
            return error


class AsyncRunner:
    """Sends any number of requests at the same time over `http`."""

    def __init__(self, http: httpx.AsyncClient, tries: int) -> None:
        self._http = http
        self._tries = tries

    async def _run(self, exchange: Exchange[Result]) -> Result:
        with closing(with_retries(exchange, self._tries)) as running:
            if self._http.is_closed:
                raise NoAnswer("the client is closed")
            try:
                attempt = next(running)
                while True:
                    await asyncio.sleep(attempt.pause_s)
                    attempt = running.send(await self._send(attempt))
            except StopIteration as end:
                result: Result = end.value
                return result

    async def _send(self, attempt: Attempt) -> Outcome:
        content = attempt.content if isinstance(attempt.content, bytes) else _read_async(attempt.content)
        options, longest_s = request_options(attempt, self._http.timeout), _longest_read_s(attempt, self._http.timeout)
        name = partial(self._http.build_request, attempt.method, attempt.path)
        try:
            async with (
                limit_head_async(name, longest_s) as extensions,
                self._http.stream(content=content, extensions=extensions, **options) as response,
            ):
                if attempt.into is None or not response.is_success:
                    response.stream = _AsyncTimedStream(response.stream, _Timer(attempt, self._http.timeout))
                    await response.aread()
                else:
                    with attempt.into.open("wb") as file:
                        async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                            await asyncio.to_thread(file.write, chunk)
                return response
        except httpx.RequestError as error:
            return error


def blocking(call: Callable[Concatenate[Any, P], Exchange[Result]]) -> Callable[Concatenate[Any, P], Result]:
    """The method of a `BlockingRunner` that runs the exchange of `call`."""

    @wraps(call)
    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        result: Result = self._run(call(self, *args, **kwargs))
        return result

    return _signed(method, call)


def blocking_iterator(
    call: Callable[Concatenate[Any, P], Exchange[Page[Item]]],
) -> Callable[Concatenate[Any, P], Iterator[Item]]:
    """The method of a `BlockingRunner` that iterates over the items of all pages."""

    @wraps(call)
    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Item]:
        rest: Exchange[Page[Item]] | None = call(self, *args, **kwargs)
        while rest is not None:
            items, rest = self._run(rest)
            yield from items

    return _signed(method, call, Iterator)


def asynchronous(
    call: Callable[Concatenate[Any, P], Exchange[Result]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, Result]]:
    """The method of an `AsyncRunner` that runs the exchange of `call`."""

    @wraps(call)
    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        result: Result = await self._run(call(self, *args, **kwargs))
        return result

    return _signed(method, call)


def async_iterator(
    call: Callable[Concatenate[Any, P], Exchange[Page[Item]]],
) -> Callable[Concatenate[Any, P], AsyncIterator[Item]]:
    """The method of an `AsyncRunner` that iterates over the items of all pages."""

    @wraps(call)
    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Item]:
        rest: Exchange[Page[Item]] | None = call(self, *args, **kwargs)
        while rest is not None:
            items, rest = await self._run(rest)
            for item in items:
                yield item

    return _signed(method, call, AsyncIterator)


def _signed(method: Method, call: Callable[..., Any], iterator: Any = None) -> Method:
    """Lets `help` show what the method returns instead of the exchange: the result, or an iterator over its items."""
    signature = inspect.signature(call)
    *_, result = get_args(signature.return_annotation)
    returned = result if iterator is None else iterator[get_args(result)]
    method.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
    return method


class _Options(TypedDict):
    method: str
    url: str
    params: dict[str, str]
    headers: dict[str, str]
    timeout: httpx.Timeout


def request_options(attempt: Attempt, usual: httpx.Timeout) -> _Options:
    """How httpx sends the request. A service that hangs costs little more time than the request's deadline.

    Raises `OSError` if the file to send is not there.
    """
    headers = dict(attempt.headers)
    if isinstance(attempt.content, Path):
        headers["Content-Length"] = str(attempt.content.stat().st_size)
    read_s = _longest_read_s(attempt, usual)
    read = None if math.isinf(read_s) else read_s
    return {
        "method": attempt.method,
        "url": attempt.path,
        "params": dict(attempt.params),
        "headers": headers,
        "timeout": httpx.Timeout(connect=usual.connect, read=read, write=usual.write, pool=usual.pool),
    }


def _longest_read_s(attempt: Attempt, usual: httpx.Timeout) -> float:
    return _SLOW_S if attempt.slow else min(usual.read or math.inf, attempt.deadline_s + _LATE_S)


class _Timer:
    """Ends a body that arrives in time byte by byte, but not as a whole: the timeout of httpx begins anew each time."""

    def __init__(self, attempt: Attempt, usual: httpx.Timeout) -> None:
        self._longest_s = _longest_read_s(attempt, usual)
        self._until = time.monotonic() + self._longest_s

    def check(self) -> None:
        if time.monotonic() > self._until:
            raise httpx.ReadTimeout(f"the answer is not complete after {self._longest_s:.1f} s")


class _TimedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, timer: _Timer) -> None:
        assert isinstance(stream, httpx.SyncByteStream)
        self._stream = stream
        self._timer = timer

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            self._timer.check()
            yield part

    def close(self) -> None:
        self._stream.close()


class _AsyncTimedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, timer: _Timer) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)
        self._stream = stream
        self._timer = timer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._timer.check()
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def _read(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk


async def _read_async(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while chunk := await asyncio.to_thread(opened.read, _CHUNK_BYTES):
            yield chunk

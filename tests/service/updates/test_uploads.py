"""Bodies on their way into a file."""

import asyncio
import io
import resource
import tempfile
import tracemalloc
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Message

from service import errors
from service.updates.fingerprint_input import read_fingerprints
from service.updates.uploads import Upload, receive_upload


def make_request(chunks: Iterable[bytes], *, ends: bool = True, length: int | None = None) -> Request:
    """A client that sends these chunks and then, unless it `ends` so, hangs up."""
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False} if ends else {"type": "http.disconnect"})

    async def receive() -> Message:
        return messages.pop(0)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    return Request({"type": "http", "headers": headers}, receive)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.anyio
@pytest.mark.parametrize("chunks", [[], [b"abc"], [b"a", b"", b"bc"], [b"x" * 700_000] * 4])
async def test_what_was_sent_is_in_the_file_in_order(chunks: list[bytes], folder: Path) -> None:
    body = b"".join(chunks)
    async with receive_upload(make_request(chunks), b"PUT /\n", limit=len(body), timeout_s=60) as upload:
        upload.file.seek(0)
        assert upload.file.read() == body
        assert upload.digest == sha256(b"PUT /\n" + body).hexdigest()
        assert list(folder.iterdir()) == []  # not even now: a process that is killed leaves nothing
    assert upload.file.closed


@pytest.mark.anyio
async def test_a_body_over_the_limit_is_refused_before_or_while_it_comes() -> None:
    for request in (make_request([], length=9), make_request([b"x"] * 9), make_request([b"x" * 9], length=3)):
        with pytest.raises(errors.BodyTooLarge):
            async with receive_upload(request, b"", limit=8, timeout_s=60):
                pass


@pytest.mark.anyio
async def test_a_client_that_hangs_up_has_sent_no_whole_body() -> None:
    with pytest.raises(errors.MalformedBody):
        async with receive_upload(make_request([b"half"], ends=False), b"", limit=8, timeout_s=60):
            pass


@pytest.mark.anyio
async def test_a_client_that_falls_silent_is_not_waited_for() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(errors.BodyTooSlow):
        async with receive_upload(Request({"type": "http", "headers": []}, receive), b"", limit=8, timeout_s=0.01):
            pass


@pytest.mark.anyio
async def test_a_full_disk_is_not_the_clients_fault() -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(errors.StorageFull):
            async with receive_upload(make_request([bytes(2**21)]), b"", limit=2**22, timeout_s=60):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_unknown_fields_of_an_upload_take_no_memory() -> None:
    body = b"{" + b",".join(b'"%07x":0' % i for i in range(300_000)) + b"}"
    upload = Upload(io.BytesIO(body), "")
    tracemalloc.start()
    try:
        with pytest.raises(errors.UnknownField, match="/0000000"):
            read_fingerprints(upload, "application/json", "c", limit=len(body))
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body)
    finally:
        tracemalloc.stop()

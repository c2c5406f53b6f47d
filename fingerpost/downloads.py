"""Exports as files: they replace nothing before they are whole, and known to be exports."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from fingerpost.errors import NoAnswer

_MEDIA_TYPE = "application/octet-stream"
_VERSION = re.compile(r'(?:W/)?"([0-9]+-[0-9a-f]+)"')  # a proxy that compresses makes the tag a weak one
_ZIP = b"PK\x03\x04"
_LENGTH_BYTES = 8  # of the header of a .safetensors file, little-endian, before its JSON


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A file to write, beside `file`. It takes the place of `file` if the block raises no error.

    Follows links. Raises `FileExistsError` if `file` is a device, a pipe or a folder.
    """
    target = file.resolve()
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{file} is not a regular file")
    partial = target.with_name(f".{target.name}.part")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read_exported_version(response: httpx.Response) -> str:
    """The version that the body of a successful response is an export of. Raises `NoAnswer` if it is no export."""
    media_type = response.headers.get("content-type", "without a content type").partition(";")[0].strip()
    version = _VERSION.fullmatch(response.headers.get("etag", ""))
    if media_type != _MEDIA_TYPE or version is None:
        raise NoAnswer(f"no export, but {response.status_code} {media_type}: nothing was written")
    return version[1]


def check_export(file: Path, suffix: str) -> None:
    """Raises `NoAnswer` if a downloaded file is not one of the format `suffix`: .safetensors or .npz."""
    with file.open("rb") as opened:
        start = opened.read(_LENGTH_BYTES + 1)
    if suffix == ".npz":
        is_export = start.startswith(_ZIP)
    else:
        header = int.from_bytes(start[:_LENGTH_BYTES], "little")
        is_export = start[_LENGTH_BYTES:] == b"{" and _LENGTH_BYTES + header <= file.stat().st_size
    if not is_export:
        raise NoAnswer(f"the answer is no {suffix} file: nothing was written")

"""The load generator: compiles `generator.c` and runs it against one port of this machine.

Packaged generators do not fit. wrk, hey and ab wait for an answer before they send the next request, so a stall of the
server slows the requests down and stays hidden. Generators with a constant rate are not packaged everywhere, or send
one body only. This generator sends request i at start + i / rate in every case, counts latency from that moment, and
takes little enough CPU to run beside the server on the same two cores.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__).with_suffix(".c")
RESULT = np.dtype(
    [("due", "f8"), ("late", "f8"), ("latency", "f8"), ("status", "i4"), ("marked", "i4")]
)  # `struct result`
HANGING, LOST, OK = 0, -1, 200
_CONNECTIONS = 512


class NoCompiler(RuntimeError):
    """This machine has no C compiler."""


class GeneratorFailed(RuntimeError):
    """The generator failed. The text is its error output."""


@dataclass(frozen=True)
class Requests:
    """A file of `count` complete HTTP requests, each for `users` locations."""

    path: Path
    count: int
    users: int


@dataclass(frozen=True, eq=False)
class Answers:
    """The results of all requests of one run.

    `rows` is a `RESULT` array in the order in which requests were due: `due` and `latency` in seconds; `status`, the
    HTTP status or `HANGING` or `LOST`; `marked`, the number of users refused inside a 200 answer.
    """

    rows: NDArray[np.void]
    users: int
    generator_cpu_s: float

    @property
    def seconds(self) -> float:
        """From the time when the first request was due to the last answer."""
        return float((self.rows["due"] + self.rows["latency"]).max())

    @property
    def located(self) -> int:
        """How many users got a location."""
        accepted = self.rows[self.rows["status"] == OK]
        return int(self.users * len(accepted) - accepted["marked"].sum())

    @property
    def complete(self) -> bool:
        """Whether every user of every request got a location."""
        return self.located == self.users * len(self.rows)

    def status_counts(self) -> dict[int, int]:
        values, counts = np.unique(self.rows["status"], return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    def quantile(self, q: float) -> float:
        """An observed latency of the accepted requests in seconds, without interpolation; infinite without any."""
        accepted = self.rows["latency"][self.rows["status"] == OK]
        return float(np.quantile(accepted, q, method="higher")) if len(accepted) else float("inf")


def build(folder: Path) -> Path:
    """The path of the compiled generator in `folder`. Compiles it again after a change of its source.

    Raises `NoCompiler`, or `GeneratorFailed` if the compiler fails.
    """
    binary = folder / f"generator-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
    if not binary.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise NoCompiler("the load generator needs a C compiler (Debian: gcc and libc6-dev)")
        folder.mkdir(parents=True, exist_ok=True)
        built = subprocess.run([compiler, "-O2", "-o", binary, SOURCE], capture_output=True, text=True)
        if built.returncode:
            raise GeneratorFailed(built.stderr)
    return binary


def write_requests(path: Path, route: str, media_type: str, bodies: Sequence[bytes], users: int) -> Requests:
    """Writes POST requests to `route` with these bodies in the file format of `generator.c`."""
    head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: "
    whole = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    lengths = np.array([len(request) for request in whole], np.uint64)
    offsets = np.cumsum(lengths) - lengths + np.uint64(16 + 16 * len(whole))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"requests" + np.uint64(len(whole)).tobytes() + np.stack([offsets, lengths], axis=1).tobytes())
        file.writelines(whole)
    return Requests(path, len(whole), users)


def fire(
    binary: Path,
    port: int,
    requests: Requests,
    rate: float,
    count: int,
    first: int = 0,
    marker: str = "",
    timeout_s: float = 10.0,
) -> Answers:
    """Sends `count` requests at `rate` per second and waits for every answer.

    Starts with request `first` of the file, and begins again at its end. A request without an answer `timeout_s` after
    it was due counts as hanging. `marker` is the text that marks a refused user in an answer's body. Raises
    `GeneratorFailed`.
    """
    with tempfile.NamedTemporaryFile(suffix=".results") as file:
        numbers = (port, repr(float(rate)), count, first, _CONNECTIONS, timeout_s)
        command = [str(binary), *map(str, numbers), marker, str(requests.path), file.name]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise GeneratorFailed(ran.stderr.strip())
        return Answers(np.fromfile(file.name, RESULT), requests.users, float(ran.stdout))

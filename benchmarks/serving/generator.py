"""The load generator: `generator.c`, compiled here, fired at one port of this machine.

Why one of our own: the generators that distributions package (wrk, hey, ab) wait for an answer before they ask again,
so that a stall of the server slows the questions down and is not seen; those that keep a constant rate are not packaged
everywhere, or send one body only. This one sends request i at start + i / rate whatever happens, counts latency from
that moment, and takes few enough cycles to stand beside the server on the same two cores.
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
    """The generator could not do its work; its own words are the text."""


@dataclass(frozen=True)
class Requests:
    """A file of `count` whole HTTP requests, each asking for `users` locations."""

    path: Path
    count: int
    users: int


@dataclass(frozen=True, eq=False)
class Answers:
    """What became of every request of one run.

    `rows` is a `RESULT` array in the order in which they were due: `due` and `latency` seconds, `status` of HTTP or
    `HANGING` or `LOST`, `marked` how many of its users were refused inside an answer of 200.
    """

    rows: NDArray[np.void]
    users: int
    generator_cpu_s: float

    @property
    def seconds(self) -> float:
        """From the first request's moment to the last answer."""
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
        """Seconds, of the accepted requests, no interpolation: an observed latency; infinite where none was."""
        accepted = self.rows["latency"][self.rows["status"] == OK]
        return float(np.quantile(accepted, q, method="higher")) if len(accepted) else float("inf")


def build(folder: Path) -> Path:
    """The compiled generator in `folder`, compiled anew when its source changed.

    Raises `NoCompiler`, and `GeneratorFailed` when it does not compile.
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
    """Writes POST requests of these bodies to `route`, as `generator.c` reads them."""
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
    """Sends `count` requests, `rate` a second, the file's from `first` on and around, and waits for every answer.

    A request unanswered `timeout_s` after it was due is given up as hanging. `marker` is the text in an answer's body
    that stands for a user refused inside it. Raises `GeneratorFailed`.
    """
    with tempfile.NamedTemporaryFile(suffix=".results") as file:
        numbers = (port, repr(float(rate)), count, first, _CONNECTIONS, timeout_s)
        command = [str(binary), *map(str, numbers), marker, str(requests.path), file.name]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise GeneratorFailed(ran.stderr.strip())
        return Answers(np.fromfile(file.name, RESULT), requests.users, float(ran.stdout))

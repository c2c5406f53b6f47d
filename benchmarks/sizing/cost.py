"""What a replica and Redis need for each cell, and what a user weighs on the wire, as it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

APPENDED = 50  # fingerprints, for one more version


@dataclass(frozen=True)
class Wire:
    """Bytes a user, of HTTP with its headers; what TLS and TCP add comes on top."""

    format: str
    encoding: str
    users: int  # a request
    request_bytes: float
    answer_bytes: float


@dataclass(frozen=True)
class ReplicaCost:
    """Of cells alike. Memory is the proportional set size of a replica, and what Redis says that its keys take."""

    date: str
    cells: int
    fingerprints: int
    tiles: float  # of a cell that have a fingerprint: where users can be
    replica_bytes: float  # without cells and frames
    cell_bytes: float
    frame_bytes: float
    cell_load_s: float
    redis_bytes: float  # a cell's first version
    redis_append_bytes: float  # one more version, with `APPENDED` fingerprints more
    load_bytes: float  # what Redis sends so that a replica can load a cell
    follow_bytes_per_s: float  # to and fro between Redis and a replica, for each cell that it holds
    wire: list[Wire]

    def markdown(self) -> str:
        facts = (
            ("a replica, without cells and frames", f"{self.replica_bytes / 2**20:.0f} MiB"),
            ("a cell in a replica, CSI and indices", f"{self.cell_bytes / 2**20:.1f} MiB"),
            ("a frame", f"{self.frame_bytes / 2**10:.0f} KiB"),
            ("tiles of a cell where users can be", f"{self.tiles:.0f}"),
            ("loading a cell at its first use", f"{self.cell_load_s:.2f} s"),
            ("a cell's first version in Redis", f"{self.redis_bytes / 2**20:.1f} MiB"),
            (f"one more version, {APPENDED} fingerprints appended", f"{self.redis_append_bytes / 2**10:.0f} KiB"),
            ("sent by Redis for a cell to be loaded", f"{self.load_bytes / 2**20:.1f} MiB"),
            ("to and fro so that a replica follows a cell", f"{self.follow_bytes_per_s:.0f} bytes/s"),
        )
        wire = (
            (one.format, one.encoding, str(one.users), f"{one.request_bytes:,.0f}", f"{one.answer_bytes:,.0f}")
            for one in self.wire
        )
        return "\n\n".join(
            (
                "# What cells cost a replica and Redis",
                f"{self.date}. `python -m benchmarks.sizing.measure`: {self.cells} cells of {self.fingerprints:,} "
                "fingerprints of 32 x 32, created over HTTP in Redis; then a new replica with the shipped model, "
                "asked for a user in each. Memory of a replica is its proportional set size, of a cell its slope.",
                table(("what", "how much"), facts),
                "Bytes of HTTP a user, headers included; TLS and TCP add theirs:",
                table(("format", "CSI", "users a request", "request", "answer"), wire),
            )
        )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))

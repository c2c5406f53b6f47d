"""Measured memory and traffic of a cell in a replica and in Redis, and bytes of a user on the wire."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.markdown import table

APPENDED = 50  # fingerprints of one more version


@dataclass(frozen=True)
class Wire:
    """Bytes of HTTP per user with headers, without TLS and TCP."""

    format: str
    encoding: str
    users: int  # a request
    request_bytes: float
    answer_bytes: float


@dataclass(frozen=True)
class ReplicaCost:
    """Figures of equal cells. Memory is the proportional set size of a replica, and MEMORY USAGE of Redis's keys."""

    date: str
    cells: int
    fingerprints: int
    tiles: float  # per cell, with at least one fingerprint
    replica_bytes: float  # without cells and frames
    cell_bytes: float
    frame_bytes: float
    cell_load_s: float
    redis_bytes: float  # a cell's first version
    redis_append_bytes: float  # one more version with `APPENDED` fingerprints
    load_bytes: float  # sent by Redis when a replica loads a cell
    follow_bytes_per_s: float  # both ways between Redis and a replica, for each cell
    wire: list[Wire]

    def markdown(self) -> str:
        facts = (
            ("a replica, without cells and frames", f"{self.replica_bytes / 2**20:.0f} MiB"),
            ("a cell in a replica, CSI and indices", f"{self.cell_bytes / 2**20:.1f} MiB"),
            ("a frame", f"{self.frame_bytes / 2**10:.0f} KiB"),
            ("tiles of a cell with fingerprints", f"{self.tiles:.0f}"),
            ("loading a cell at its first use", f"{self.cell_load_s:.2f} s"),
            ("a cell's first version in Redis", f"{self.redis_bytes / 2**20:.1f} MiB"),
            (f"one more version, {APPENDED} fingerprints appended", f"{self.redis_append_bytes / 2**10:.0f} KiB"),
            ("sent by Redis when a replica loads a cell", f"{self.load_bytes / 2**20:.1f} MiB"),
            ("both ways between Redis and a replica that follows a cell", f"{self.follow_bytes_per_s:.0f} bytes/s"),
        )
        wire = (
            (one.format, one.encoding, str(one.users), f"{one.request_bytes:,.0f}", f"{one.answer_bytes:,.0f}")
            for one in self.wire
        )
        return "\n\n".join(
            (
                "# What cells cost a replica and Redis",
                f"{self.date}. `python -m benchmarks.sizing.measure`: an operator creates {self.cells} cells of "
                f"{self.fingerprints:,} fingerprints of 32 x 32 over HTTP in Redis. A new replica with the shipped "
                "model then locates one user in each. Memory of a replica is its proportional set size; memory of a "
                "cell is the slope of this size over the number of cells.",
                table(("quantity", "value"), facts),
                "Bytes of HTTP per user, with headers, without TLS and TCP:",
                table(("format", "CSI", "users a request", "request", "answer"), wire),
            )
        )

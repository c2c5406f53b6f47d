"""The resources of a city, computed from measured and chosen inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from benchmarks.markdown import table
from benchmarks.sizing.cost import ReplicaCost
from service.inference.estimator import MOST_FEATURE_BYTES

RESULTS = Path(__file__).parents[1] / "results"
_SHIPPED = "shipped"
_DAY_S = 86_400
_CHANCE = 0.05
COLUMNS = {
    "one user a request": (1, "msgpack", "complex64"),
    "16 users a request, `complex32`": (16, "msgpack", "complex32"),
}


@dataclass(frozen=True)
class Inputs:
    """Bytes, seconds, users a second. A replica is one process on `replica_cores` cores."""

    # the city
    cells: int
    locations: float
    fingerprints: int
    tiles: float  # per cell, with users
    hits: float  # share of users whose frame is cached
    updates: float  # per day and cell
    versions: float  # kept in Redis per cell
    # the choices
    load: float  # mean load of a replica as a share of its sustained rate
    spare: float  # share of replicas that may be down; the others take over their cells
    replica_memory: float
    redis_memory: float  # per node
    link: float  # bits per second of a balancer or a Redis node
    # what was measured
    warm: float  # users per second that a replica sustains with cached frames
    cold: float  # likewise without cached frames
    replica_cores: int
    replica_bytes: float
    cell_bytes: float
    frame_bytes: float
    feature_bytes: float  # of fingerprints, in all, that a replica keeps for frames
    cell_load_s: float
    redis_bytes: float
    redis_append_bytes: float
    load_bytes: float
    follow_bytes_per_s: float
    request_bytes: float
    answer_bytes: float
    traced: float  # users per second that one core traces; measured: 40 to 90

    @classmethod
    def measured(cls, batch: int, format: str, encoding: str) -> Self:
        """A city of 10,000 cells and 100,000 locations a second, with the measurements in `RESULTS`."""
        cost = msgspec.json.decode((RESULTS / "replica_cost.json").read_bytes(), type=ReplicaCost)
        (wire,) = (one for one in cost.wire if (one.format, one.encoding, one.users) == (format, encoding, batch))
        return cls(
            cells=10_000,
            locations=100_000,
            fingerprints=cost.fingerprints,
            tiles=cost.tiles,
            hits=0.98,
            updates=1,
            versions=8,
            load=0.6,
            spare=0.1,
            replica_memory=32 * 2**30,
            redis_memory=16 * 2**30,
            link=10e9,
            warm=_sustained("warm-unique", batch),
            cold=_sustained("cold", batch),
            replica_cores=2,
            replica_bytes=cost.replica_bytes,
            cell_bytes=cost.cell_bytes,
            frame_bytes=cost.frame_bytes,
            feature_bytes=MOST_FEATURE_BYTES,
            cell_load_s=cost.cell_load_s,
            redis_bytes=cost.redis_bytes,
            redis_append_bytes=cost.redis_append_bytes,
            load_bytes=cost.load_bytes,
            follow_bytes_per_s=cost.follow_bytes_per_s,
            request_bytes=wire.request_bytes,
            answer_bytes=wire.answer_bytes,
            traced=60,
        )


@dataclass(frozen=True)
class Need:
    """Bytes, seconds, bits per second. Cells and memory: of the fullest replica while the spare ones are down."""

    replicas: int
    cores: int
    users_per_s: float  # per replica, with all replicas up
    cells_each: int  # of the fullest replica
    busiest: float  # users per second of the fullest replica
    cell_memory: float  # its FINGERPOST_CELL_MEMORY_BYTES
    frame_memory: float  # and FINGERPOST_FRAME_CACHE_BYTES
    memory_each: float
    bound: str  # what sets the number of replicas: "load", "memory", or the "chance" of an uneven hash
    loading_s: float  # until a restarted replica has loaded its cells, two at a time
    encoding_s: float  # of work on all frames of its cells, with nothing else to do
    redis_memory: float
    redis_nodes: int
    redis_follow: float
    redis_updates: float
    redis_all_s: float  # to send every cell once over the nodes' links
    requests: float
    answers: float
    balancers: int
    core_hours_traced: float  # to ray-trace as many fingerprints as the city has


def need(given: Inputs) -> Need:
    """Raises `ValueError` if a replica is too small for one cell with its frames, or for the users of one cell."""
    # A user takes 1/warm seconds of a replica with a cached frame, else 1/cold.
    sustained = 1 / (given.hits / given.warm + (1 - given.hits) / given.cold)
    frames = given.hits * given.tiles * given.frame_bytes  # of a cell
    whole = given.replica_bytes + given.feature_bytes
    most_cells = int((given.replica_memory - whole) // (given.cell_bytes + frames))
    if most_cells < 1:
        raise ValueError("a replica's memory does not hold one cell with its frames")
    by_load, by_memory = given.locations / (given.load * sustained), given.cells / most_cells
    bound = "load" if by_load >= by_memory else "memory"
    replicas = math.ceil(max(by_load, by_memory) / (1 - given.spare))
    a_cell = given.locations / given.cells
    while (fullest := _fullest(given.cells, replicas * (1 - given.spare))) > min(most_cells, sustained / a_cell):
        if fullest == 1:
            raise ValueError("a replica does not sustain the users of one cell")
        bound, replicas = "chance", math.ceil(1.01 * replicas)
    redis_memory = given.cells * (given.redis_bytes + (given.versions - 1) * given.redis_append_bytes)
    redis_nodes = math.ceil(redis_memory / given.redis_memory)
    requests, answers = (8 * given.locations * size for size in (given.request_bytes, given.answer_bytes))
    return Need(
        replicas=replicas,
        cores=replicas * given.replica_cores,
        users_per_s=given.locations / replicas,
        cells_each=fullest,
        busiest=fullest * a_cell,
        cell_memory=fullest * given.cell_bytes,
        frame_memory=given.feature_bytes + fullest * frames,
        memory_each=whole + fullest * (given.cell_bytes + frames),
        bound=bound,
        loading_s=fullest * given.cell_load_s / 2,
        encoding_s=fullest * given.hits * given.tiles / given.cold,
        redis_memory=redis_memory,
        redis_nodes=redis_nodes,
        redis_follow=8 * given.cells * given.follow_bytes_per_s,
        redis_updates=8 * given.cells * given.updates * given.redis_append_bytes / _DAY_S,
        redis_all_s=8 * given.cells * given.load_bytes / (redis_nodes * given.link),
        requests=requests,
        answers=answers,
        balancers=math.ceil(max(requests, answers) / (given.load * given.link)),
        core_hours_traced=given.cells * given.fingerprints / given.traced / 3600,
    )


def needs_of(columns: Sequence[tuple[str, Inputs]]) -> str:
    """A Markdown table with a column for each way to run the city."""
    needs = [(given, need(given)) for _, given in columns]
    rows = {
        "users/s of a replica, frames cached / not cached": [f"{g.warm:,.0f} / {g.cold:,.0f}" for g, _ in needs],
        "replicas, including spare ones, set by": [f"{n.replicas:,}, by {n.bound}" for _, n in needs],
        "cores of all replicas": [f"{n.cores:,}" for _, n in needs],
        "users/s per replica, mean / fullest": [f"{n.users_per_s:,.0f} / {n.busiest:,.0f}" for _, n in needs],
        "cells of the fullest replica": [f"{n.cells_each:,}" for _, n in needs],
        "`FINGERPOST_CELL_MEMORY_BYTES`": [_bytes(n.cell_memory) for _, n in needs],
        "`FINGERPOST_FRAME_CACHE_BYTES`": [_bytes(n.frame_memory) for _, n in needs],
        "memory of the fullest replica": [_bytes(n.memory_each) for _, n in needs],
        "after a restart: loading cells / encoding frames": [
            f"{n.loading_s:,.0f} / {n.encoding_s:,.0f} s" for _, n in needs
        ],
        "traffic to / from the service": [f"{n.requests / 1e9:.1f} / {n.answers / 1e9:.1f} Gbit/s" for _, n in needs],
        "balancers, limited by links": [f"{n.balancers:,}" for _, n in needs],
        "Redis: memory, nodes": [f"{_bytes(n.redis_memory)}, {n.redis_nodes:,}" for _, n in needs],
        "Redis: traffic of following / of updates": [
            f"{n.redis_follow / 1e6:.1f} / {n.redis_updates / 1e6:.2f} Mbit/s" for _, n in needs
        ],
        "Redis: time to send every cell once": [f"{n.redis_all_s:,.0f} s" for _, n in needs],
        "ray tracing of as many fingerprints": [f"{n.core_hours_traced:,.0f} core hours" for _, n in needs],
    }
    head = ("", *(name for name, _ in columns))
    return table(head, [(name, *values) for name, values in rows.items()])


def assumptions(given: Inputs) -> str:
    """A sentence with the chosen inputs."""
    return (
        f"{given.cells:,} cells of {given.fingerprints:,} fingerprints, {given.locations:,.0f} locations/s; "
        f"{given.tiles:.0f} tiles with users per cell, {given.hits:.0%} of users with a cached frame; replicas on "
        f"{given.replica_cores} cores with at most {_bytes(given.replica_memory)}, mean load {given.load:.0%} of the "
        f"sustained rate, {given.spare:.0%} of them down; {given.updates:g} update per cell and day, "
        f"{given.versions:g} versions kept; Redis nodes of {_bytes(given.redis_memory)}; "
        f"links of {given.link / 1e9:g} Gbit/s"
    )


def _fullest(cells: int, replicas: float) -> int:
    """Cells of the fullest replica if a hash distributes them at random: the 95th percentile."""
    mean = cells / max(1.0, replicas)
    some = -1
    fewer = 0.0  # Poisson probability of at most this many cells
    while some < cells and replicas * (1 - fewer) > _CHANCE:
        some += 1
        fewer += math.exp(some * math.log(mean) - mean - math.lgamma(some + 1))
    return some


def _sustained(kind: str, batch: int) -> float:
    """Users per second of one process at p99 <= 20 ms if such a rate was found, else its highest rate."""
    report = msgspec.json.decode((RESULTS / "serving.json").read_bytes())
    (model,) = (one for one in report["models"] if one["name"].startswith(_SHIPPED))
    (figures,) = (
        one
        for one in model["figures"]
        if (one["server"], one["kind"], one["format"], one["users"]) == ("Fingerpost", kind, "msgpack", batch)
        and one["tuning"] == ""  # several workers have theirs
    )
    return float(figures["locations_per_s"] or figures["most_locations_per_s"])


def _bytes(size: float) -> str:
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 2**10:,.1f} KiB"

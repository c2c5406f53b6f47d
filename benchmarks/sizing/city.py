"""What a city needs, by arithmetic from what was measured and what is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from benchmarks.sizing.cost import ReplicaCost, table

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
    tiles: float  # of a cell where users are
    hits: float  # share of users whose frame is there
    updates: float  # a day and cell
    versions: float  # kept in Redis, a cell
    # the choices
    load: float  # share of what replicas sustain that is planned with in the mean
    spare: float  # share of replicas that may be away; the others hold their cells too
    replica_memory: float
    redis_memory: float  # of one node
    link: float  # bits a second of a balancer, or of a Redis node
    # what was measured
    warm: float  # users a second that a replica sustains, whose frames are there
    cold: float  # likewise, whose frames are not
    replica_cores: int
    replica_bytes: float
    cell_bytes: float
    frame_bytes: float
    cell_load_s: float
    redis_bytes: float
    redis_append_bytes: float
    load_bytes: float
    follow_bytes_per_s: float
    request_bytes: float
    answer_bytes: float
    traced: float  # users a second that one core traces; 40 to 90 were seen

    @classmethod
    def measured(cls, batch: int, format: str, encoding: str) -> Self:
        """A city of 10,000 cells and 100,000 locations a second, by what is kept in `RESULTS`."""
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
    """Bytes, seconds, bits a second on wires; cells and memory are the fullest replica's, with the spare ones away."""

    replicas: int
    cores: int
    users_per_s: float  # a replica, while all are there
    cells_each: int  # the fullest replica
    busiest: float  # users a second that are its
    cell_memory: float  # its FINGERPOST_CELL_MEMORY_BYTES
    frame_memory: float  # and FINGERPOST_FRAME_CACHE_BYTES
    memory_each: float
    bound: str  # by what the number of replicas is: "load", "memory", or the "chance" that hashing leaves to cells
    loading_s: float  # until a restarted replica has loaded its cells, two at a time
    encoding_s: float  # that it works on nothing but their frames
    redis_memory: float
    redis_nodes: int
    redis_follow: float
    redis_updates: float
    redis_all_s: float  # to send every cell once, by the nodes' links
    requests: float
    answers: float
    balancers: int
    core_hours_traced: float  # to trace as many fingerprints as the city has


def need(given: Inputs) -> Need:
    """Raises `ValueError` where a replica's memory does not hold one cell with its frames."""
    # A user whose frame is there takes 1/warm of a replica's second, another one 1/cold.
    sustained = 1 / (given.hits / given.warm + (1 - given.hits) / given.cold)
    frames = given.hits * given.tiles * given.frame_bytes  # of a cell
    most_cells = int((given.replica_memory - given.replica_bytes) // (given.cell_bytes + frames))
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
        frame_memory=fullest * frames,
        memory_each=given.replica_bytes + fullest * (given.cell_bytes + frames),
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
    """What each of some ways to run a city needs, a column each, as Markdown."""
    needs = [(given, need(given)) for _, given in columns]
    rows = {
        "users/s of a replica, frames there / not": [f"{g.warm:,.0f} / {g.cold:,.0f}" for g, _ in needs],
        "replicas, spare ones among them": [f"{n.replicas:,}, by {n.bound}" for _, n in needs],
        "their cores": [f"{n.cores:,}" for _, n in needs],
        "users/s a replica, in the mean / the fullest": [f"{n.users_per_s:,.0f} / {n.busiest:,.0f}" for _, n in needs],
        "cells of the fullest": [f"{n.cells_each:,}" for _, n in needs],
        "`FINGERPOST_CELL_MEMORY_BYTES`": [_bytes(n.cell_memory) for _, n in needs],
        "`FINGERPOST_FRAME_CACHE_BYTES`": [_bytes(n.frame_memory) for _, n in needs],
        "its memory in all": [_bytes(n.memory_each) for _, n in needs],
        "a restarted replica loads cells / encodes frames for": [
            f"{n.loading_s:,.0f} / {n.encoding_s:,.0f} s" for _, n in needs
        ],
        "to the service / from it": [f"{n.requests / 1e9:.1f} / {n.answers / 1e9:.1f} Gbit/s" for _, n in needs],
        "balancers, by their links": [f"{n.balancers:,}" for _, n in needs],
        "Redis: memory, nodes": [f"{_bytes(n.redis_memory)}, {n.redis_nodes:,}" for _, n in needs],
        "Redis: replicas follow / load updates": [
            f"{n.redis_follow / 1e6:.1f} / {n.redis_updates / 1e6:.2f} Mbit/s" for _, n in needs
        ],
        "Redis: every cell sent once": [f"{n.redis_all_s:,.0f} s" for _, n in needs],
        "tracing as many fingerprints": [f"{n.core_hours_traced:,.0f} core hours" for _, n in needs],
    }
    head = ("", *(name for name, _ in columns))
    return table(head, [(name, *values) for name, values in rows.items()])


def assumptions(given: Inputs) -> str:
    """The inputs that are choices, and not measured, as words."""
    return (
        f"{given.cells:,} cells of {given.fingerprints:,} fingerprints, {given.locations:,.0f} locations/s; "
        f"{given.tiles:.0f} tiles a cell, {given.hits:.0%} of users find their frame; a replica on "
        f"{given.replica_cores} cores and at most {_bytes(given.replica_memory)}, planned with {given.load:.0%} of "
        f"what it sustains, {given.spare:.0%} of them away; {given.updates:g} update a cell and day, "
        f"{given.versions:g} versions kept; Redis nodes of {_bytes(given.redis_memory)}; "
        f"links of {given.link / 1e9:g} Gbit/s"
    )


def _fullest(cells: int, replicas: float) -> int:
    """How many cells the fullest replica has where each falls to any of them; one time in twenty it has more."""
    mean = cells / max(1.0, replicas)
    some = -1
    fewer = 0.0  # the chance of so many cells or fewer, by Poisson
    while some < cells and replicas * (1 - fewer) > _CHANCE:
        some += 1
        fewer += math.exp(some * math.log(mean) - mean - math.lgamma(some + 1))
    return some


def _sustained(kind: str, batch: int) -> float:
    """Users a second with p99 <= 20 ms where that was reached, else the most that was got done."""
    report = msgspec.json.decode((RESULTS / "serving.json").read_bytes())
    (model,) = (one for one in report["models"] if one["name"].startswith(_SHIPPED))
    (figures,) = (
        one
        for one in model["figures"]
        if (one["server"], one["kind"], one["format"], one["users"]) == ("Fingerpost", kind, "msgpack", batch)
    )
    return float(figures["locations_per_s"] or figures["most_locations_per_s"])


def _bytes(size: float) -> str:
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 2**10:,.1f} KiB"

"""All figures of one run, written to and read from JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.serving.campaign import Figures
from benchmarks.serving.floor import Floor, Machine
from benchmarks.serving.growth import Grown
from benchmarks.serving.inprocess import Batch


@dataclass(frozen=True)
class ModelReport:
    """Figures of one model. `in_process`: the batches of "onnx" and "torch"."""

    name: str
    figures: list[Figures]
    in_process: dict[str, list[Batch]]
    floors: list[Floor]

    def floor_s(self, kind: str) -> float:
        """The floor of a kind of tile. Rivals (kind "any") do the work of a cold tile for every user."""
        wanted = "cold" if kind == "any" else kind
        return next(floor.seconds for floor in self.floors if floor.kind == wanted)


@dataclass(frozen=True)
class Report:
    date: str
    quick: bool
    machine: dict[str, str]
    rates: Machine
    models: list[ModelReport]
    growth: list[Grown]
    notes: list[str]  # what could not be measured, and why

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def read_report(path: Path) -> Report:
    """Raises msgspec's `ValidationError`, and `OSError`."""
    return msgspec.json.decode(path.read_bytes(), type=Report)

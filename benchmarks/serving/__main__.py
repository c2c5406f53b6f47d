"""Runs the serving benchmark: ``python -m benchmarks.serving``, about 30 minutes.

``--full`` takes an hour, with every tuning of the rivals, larger batches and longer runs. ``--quick`` is a smoke test
of under 90 s.

A complete run writes ``benchmarks/results/serving.md``, ``.json`` and ``.png``; a partial run writes them to
``var/bench/``. Both print the table.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from benchmarks.serving import cells, inprocess, machine, rivals
from benchmarks.serving.campaign import BRISK, QUICK, SWEEP, THOROUGH, Figures, NotAnswering, Pace, measure
from benchmarks.serving.floor import Machine, Shape, floors, measure_machine
from benchmarks.serving.generator import GeneratorFailed, build
from benchmarks.serving.growth import SIZES, Grown, grow
from benchmarks.serving.plot import draw
from benchmarks.serving.report import ModelReport, Report
from benchmarks.serving.served_models import NEIGHBOURS, SMALL_CHANNEL, ServedModel, paper_size, shipped
from benchmarks.serving.servers import NotStarted, fingerpost
from benchmarks.serving.table import markdown
from benchmarks.serving.workload import KINDS, Kind, Load, make_load, make_rival_load
from reference_db import Cell, Fingerprints

FOLDER = Path("var/bench")
RESULTS = Path("benchmarks/results")
RIVALS = (*rivals.SERVERS, *inprocess.NAMES)
MODELS = ("paper", "shipped")
BATCHES = (1, 16, 64)
RIVAL_BATCHES = (1, 16)
CORES = os.cpu_count() or 1
IN_PROCESS_S = 3.0  # for each batch size


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    pace: Pace
    sweep: Pace  # for the tunings of rivals
    kinds: tuple[Kind, ...]
    batches: tuple[int, ...]
    rivals: tuple[str, ...]
    rival_batches: tuple[int, ...]
    tunings: int  # at most, of each rival
    workers: tuple[int, ...]  # of Fingerpost
    streets: int  # cells of 2,000 fingerprints
    sizes: tuple[int, ...]  # fingerprints of the growing cell
    in_process_s: float
    models: tuple[str, ...]


FULL = Plan(THOROUGH, SWEEP, KINDS, BATCHES, RIVALS, RIVAL_BATCHES, 99, (1, CORES), 8, SIZES, IN_PROCESS_S, MODELS)
USUAL = Plan(BRISK, QUICK, KINDS, BATCHES[:2], RIVALS, RIVAL_BATCHES, 2, (1, CORES), 4, SIZES, 1.0, MODELS)
SMOKE = Plan(QUICK, QUICK, ("shared",), (1,), RIVALS, (1,), 1, (1,), 1, (), 0.1, ("shipped",))


def main() -> None:
    # Servers and generators are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    plan, folder = _plan()
    folder.mkdir(parents=True, exist_ok=True)
    for report in run(plan):
        report.write(folder / "serving.json")
        (folder / "serving.md").write_text(table := markdown(report))
        if report.models:
            draw(report, folder / "serving.png")
    print(table)


def run(plan: Plan) -> Iterator[Report]:
    """Yields the report so far after each model, so that an interrupted run keeps its results."""
    generator, rates = build(FOLDER), measure_machine()
    report = Report(
        date=datetime.now(UTC).date().isoformat(),
        quick=plan.pace is QUICK,
        machine=machine.describe(rivals.PYTHON if rivals.PYTHON.exists() else None, generator),
        rates=rates,
        models=[],
        growth=[],
        notes=[],
    )
    for model in (paper_size(FOLDER) if name == "paper" else shipped() for name in plan.models):
        measured, missing = measure_model(model, plan, generator, rates)
        report = replace(report, models=[*report.models, measured], notes=[*report.notes, *missing])
        yield report
    if plan.sizes:
        grown: list[Grown] = []
        notes: list[str] = []
        with _noting("a growing cell", notes):
            for row in grow(generator, paper_size(FOLDER, SMALL_CHANNEL), plan.sizes, plan.pace, FOLDER):
                _say(f"{row.fingerprints:,} fingerprints, {row.kind}: done")
                grown.append(row)
        yield replace(report, growth=grown, notes=[*report.notes, *notes])


def measure_model(model: ServedModel, plan: Plan, generator: Path, rates: Machine) -> tuple[ModelReport, list[str]]:
    """The figures, and notes on what could not be measured and why."""
    folder = FOLDER / model.label
    database = prepare(model, plan.streets, folder)
    streets = [cells.street(number) for number in range(plan.streets)]
    figures: list[Figures] = []
    in_process: dict[str, list[inprocess.Batch]] = {}
    notes: list[str] = []
    for load, workers in product(fingerpost_loads(plan, streets, folder), plan.workers):
        if workers > 1 and (load.kind == "cold" or load.format == "json"):
            continue  # one process encodes frames on all cores
        tuning = f"{workers} workers" if workers > 1 else ""
        name = " ".join(filter(None, ("Fingerpost", tuning)))
        what = f"{model.name}: {name}, {load.kind} tiles, {load.format}, {load.users} users a request"
        with _noting(what, notes):
            figures.append(measure(generator, fingerpost(database, model.folder, workers), load, plan.pace, tuning))
    for rival in plan.rivals:
        if rival in inprocess.NAMES:
            with _noting(f"{model.name}: {inprocess.NAMES[rival]}", notes):
                references = folder / "references.npz"
                in_process[rival] = inprocess.measure(rival, model.folder, references, plan.in_process_s)
        elif rivals.PYTHON.exists():
            figures += measure_rival(rival, model, plan, generator, folder, notes)
        else:
            notes.append(f"{rival}: no {rivals.PYTHON.parents[1]}, which `make bench` makes")
    radio = Shape(lines=1, columns=model.antennas, subcarriers=model.subcarriers)
    return ModelReport(model.name, figures, in_process, floors(model.config, NEIGHBOURS, radio, rates)), notes


def prepare(model: ServedModel, streets: int, folder: Path) -> Path:
    """The folder of a database with all cells, imported for this model unless a run before did so."""
    database = folder / f"streets-{streets}"
    if not database.exists():
        unfinished = folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        for number in range(streets):
            _say(f"{model.name}: importing street-{number}")
            cells.import_cell(*cells.street(number), unfinished, model.folder)
        unfinished.rename(database)
    cells.write_references(*cells.street(0), folder / "references.npz")
    return database


def fingerpost_loads(plan: Plan, streets: list[tuple[Cell, Fingerprints]], folder: Path) -> Iterator[Load]:
    for kind, users in product(plan.kinds, plan.batches):
        yield make_load(kind, users, "msgpack", streets, folder)
    if "shared" in plan.kinds:
        yield make_load("shared", 1, "json", streets, folder)


def measure_rival(
    rival: str, model: ServedModel, plan: Plan, generator: Path, folder: Path, notes: list[str]
) -> list[Figures]:
    """Figures with the tuning that is best on single requests: by sustained rate, then by highest rate.

    If the server does not answer batches with that tuning, the next best tuning is used. Adds to `notes` what could not
    be measured.
    """
    commands = rivals.commands(rival, model, folder / "references.npz")
    single = make_rival_load(1, *cells.street(0), folder)
    found: list[Figures] = []
    for tuning in list(commands)[: plan.tunings]:
        with _noting(f"{model.name}: trying {rival}, {tuning}", notes):
            found.append(measure(generator, commands[tuning], single, plan.sweep, tuning))
    found.sort(key=lambda figures: (figures.locations_per_s, figures.most_locations_per_s), reverse=True)
    shown: list[Figures] = []
    for users in plan.rival_batches:
        load = make_rival_load(users, *cells.street(0), folder)
        for tuning in (figures.tuning for figures in found):
            before = len(notes)
            with _noting(f"{model.name}: {rival}, {tuning}, {users} users a request", notes):
                shown.append(measure(generator, commands[tuning], load, plan.pace, tuning))
            if len(notes) == before:
                break
    return shown


@contextlib.contextmanager
def _noting(what: str, notes: list[str]) -> Iterator[None]:
    """Prints what is being measured. After a failure the run goes on, and the report has a note."""
    _say(what)
    try:
        yield
    except (NotStarted, NotAnswering, GeneratorFailed, subprocess.CalledProcessError) as error:
        notes.append(f"{what}: {str(error).strip().rstrip('.')}")


def _plan() -> tuple[Plan, Path]:
    parser = argparse.ArgumentParser(description="How fast Fingerpost answers, beside other servers.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="a smoke test of under 90 s")
    length.add_argument("--full", action="store_true", help="an hour instead of half of one")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, help="kinds of tiles; default all")
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, help="what to measure beside Fingerpost; default all")
    parser.add_argument(
        "--models", nargs="*", choices=MODELS, help="model of the paper's size, shipped model; default both"
    )
    parser.add_argument("--no-growth", action="store_true", help="skip the growing cell")
    given = parser.parse_args()
    plan = SMOKE if given.quick else FULL if given.full else USUAL
    if given.kinds is not None:
        plan = replace(plan, kinds=tuple(given.kinds))
    if given.rivals is not None:
        plan = replace(plan, rivals=tuple(given.rivals))
    if given.models is not None:
        plan = replace(plan, models=tuple(given.models))
    if given.no_growth:
        plan = replace(plan, sizes=())
    return plan, RESULTS if plan in (USUAL, FULL) else FOLDER


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

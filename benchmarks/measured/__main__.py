"""Locates users in measured Wi-Fi channels, over real HTTP.

``python -m benchmarks.measured FILE`` reads corridors of the CSUIndoorLoc data set: one antenna, 20 MHz, one access
point a corridor. `benchmarks.measured.corridors` says how FILE is laid out. The benchmark imports the survey of each
corridor as a cell, starts services on free ports, and posts every test snapshot without a coarse position: to weighted
kNN, to the shipped model, to the shipped model fine-tuned on the other corridors, and to a model trained on these alone
by ALLoc's recipe. It does so twice: with the subcarriers that carry a signal, and with all subcarriers as they were
captured. Writes ``benchmarks/results/measured.md``, or ``var/bench/measured.md`` with ``--quick``, and prints it.
Training runs are kept in ``var/measured``, so that the command resumes after a stop.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measured.captures import describe_captures
from benchmarks.measured.corridors import SHOWN, Corridor, Shown, read_corridors
from benchmarks.measured.report import Row, Section, Trained, report
from benchmarks.measured.rivals import rivals
from benchmarks.measured.scores import score_by_point
from benchmarks.measured.service import LocatedCorridors, locate_by_service, write_unfit_artifact
from benchmarks.measured.training import Plan, Setting, alloc, fine_tuning, learn, shipped_recipe
from benchmarks.serving.__main__ import FOLDER as QUICK_RESULTS
from benchmarks.serving.__main__ import RESULTS
from benchmarks.serving.served_models import SHIPPED

FOLDER = Path("var/measured")
ALL, FEW = 24, 4  # snapshots of each point in a survey: the 64 neighbours of a user are then of 3 points, or of 16


@dataclass(frozen=True)
class Effort:
    """What is trained, in how many corridors tests are located, and how many snapshots of each point. None: all."""

    plans: Mapping[Shown, Sequence[Plan]]
    corridors: int | None = None
    snapshots: int | None = None


FULL = Effort(
    {
        "channel": [
            fine_tuning([Setting(1e-4, 100, ALL), Setting(1e-4, 200, FEW), Setting(5e-4, 200, FEW)]),
            alloc([Setting(1e-3, 300, FEW)]),
        ],
        "captured": [],  # a model could learn to read the time
    }
)
QUICK = Effort(
    {"channel": [fine_tuning([Setting(1e-4, 2, FEW)]), alloc([Setting(1e-3, 2, FEW)])], "captured": []},
    corridors=1,
    snapshots=1,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="csu-corridors.npz")
    parser.add_argument("--quick", action="store_true", help="a smoke test: two steps, and the first corridor located")
    parser.add_argument("--subcarriers", choices=SHOWN, action="append", help="one of the two choices only")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else FULL
    data = hashlib.sha256(arguments.file.read_bytes()).hexdigest()[:12]
    folder = FOLDER / ("quick" if arguments.quick else "full") / data
    sections = [
        measure_section(shown, read_corridors(arguments.file, shown), effort, folder / shown)
        for shown in arguments.subcarriers or SHOWN
    ]
    words = [arguments.file.name if word == str(arguments.file) else word for word in sys.argv[1:]]
    text = report(sections, shlex.join(["python", "-m", "benchmarks.measured", *words]))
    results = QUICK_RESULTS if arguments.quick else RESULTS
    results.mkdir(parents=True, exist_ok=True)
    (results / "measured.md").write_text(text)
    print(text)


def measure_section(shown: Shown, corridors: Sequence[Corridor], effort: Effort, folder: Path) -> Section:
    tested = [one.with_tests(effort.snapshots) for one in corridors[: effort.corridors]]
    rows = [
        Row(corridor.name, name, score_by_point(locate(corridor), corridor.test))
        for corridor in tested
        for name, locate in rivals(shown).items()
    ]
    unfit = write_unfit_artifact(SHIPPED, folder / "unfit")
    by_knn = locate_by_service(tested, unfit, folder / "weighted-knn", ALL, "weighted-knn")
    shipped = locate_by_service(tested, SHIPPED, folder / "shipped", ALL, "mateformer")
    few = locate_by_service(tested, SHIPPED, folder / "shipped-few", FEW, "mateformer")
    rows += rows_of("weighted kNN of the service", tested, by_knn)
    rows += rows_of("Mateformer as shipped", tested, shipped)
    rows += rows_of(f"the same, {FEW} snapshots a point", tested, few)
    trained = []
    for plan in effort.plans[shown]:
        for corridor in tested:
            others = [one for one in corridors if one.name != corridor.name]
            place = folder / plan.folder / corridor.name
            learned = learn(plan, shipped_recipe(), others, place)
            trained.append(Trained(corridor.name, plan.name, learned))
            snapshots = learned.chosen.snapshots
            located = locate_by_service([corridor], learned.artifact, place / "served", snapshots, "mateformer")
            rows += rows_of(f"{plan.name}, {snapshots} snapshots a point", [corridor], located)
    notes = describe_captures(corridors) if shown == "captured" else []
    return Section(shown, sorted(rows, key=lambda row: row.corridor), trained, shipped.faults, notes)


def rows_of(name: str, corridors: Sequence[Corridor], located: LocatedCorridors) -> Iterator[Row]:
    for corridor, answers in zip(corridors, located.answers, strict=True):
        yield Row(corridor.name, name, score_by_point(answers, corridor.test))


if __name__ == "__main__":
    main()

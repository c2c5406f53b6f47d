"""Whether answers say how far to trust them: ellipses, and CSI that does not belong to the cell.

``python -m benchmarks.trust`` serves twelve cells of florence, which no training saw, with fingerprints of users that
were traced there, and locates other users of the same streets by the code of the service. Half of the cells are out of
the base station's sight, half are seen by a planar array. Each cell is served twice, with other fingerprints and users.
It needs path tables of 2,500 users (`fingerpost-train scenes trace florence:0-5 florence-nlos:0-5 munich:100
etoile:100 san_francisco:100 --users 2500`), and for the last section those of `benchmarks.trust_drift`. It takes an
hour on one core. It writes ``benchmarks/results/trust.md``, and rows as it goes to ``runs/trust.jsonl``: run it again
to resume after a stop.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust_cells import CLEAN, STO, Bench, Street, at_snr, draw_fixes, measure_ellipses
from benchmarks.trust_cost import measure_cost
from benchmarks.trust_drift import measure_drift
from benchmarks.trust_foreign import measure_foreign
from benchmarks.trust_report import write_report
from models.mateformer.conditions import STREET
from models.radio.impairments import Impairments

CELLS = [(place, seed) for place in ("florence", "florence-nlos") for seed in range(6)]
DESIGNS = ("base", "8x8")  # in turn
OTHER_CITIES = (("munich", 100), ("etoile", 100), ("san_francisco", 100))
REFERENCES, USERS = 1500, 1000
FOLDS = 2
FIXES: tuple[float | None, ...] = (1.0, 10.0, None)
CONFIDENCES = (50, 68, 90, 95, 99)
RESULT, ROWS = Path("benchmarks/results/trust.md"), Path("runs/trust.jsonl")

# Radio of the survey, stated sampling-time offsets of survey and users, and radios of the users, by name.
Surveys = dict[str, tuple[Impairments, tuple[float, float], dict[str, Impairments]]]
SURVEYS: Surveys = {
    "clean": (CLEAN, (0.0, 0.0), {"clean": CLEAN, "users at 15 dB": at_snr(15)}),
    "15 dB": (at_snr(15), (0.0, 0.0), {"15 dB": at_snr(15)}),
    "street": (STREET, (STO, STO), {"street radio": STREET}),
    "clocked": (CLEAN, (0.0, STO), {"users with street radio": STREET}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=Path, default=Path("runs/paths"), help="folder of the path tables")
    parser.add_argument("--cells", type=int, default=len(CELLS), help="how many of the cells")
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument(
        "--changed", type=Path, default=Path("runs/paths-changed"), help="path tables of benchmarks.trust_drift"
    )
    chosen = parser.parse_args()
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    done = {(row["cell"], row["fold"], row["survey"]) for row in rows}
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    bench = Bench.start()
    for fold, number in product(range(chosen.folds), range(chosen.cells)):
        street = load_street(bench, number, fold, chosen.paths)
        for name in SURVEYS:
            if (street.name, fold, name) not in done:
                rows += (found := list(measure_survey(bench, street, fold, name, chosen.paths, number)))
                with ROWS.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
        print(street.name, "fold", fold, "done", flush=True)
    parts = [write_report(rows, CONFIDENCES), measure_cost(bench, load_street(bench, 0, 0, chosen.paths))]
    if chosen.changed.exists():
        parts.append(measure_drift(chosen.changed))
    RESULT.write_text("\n".join(part.rstrip() + "\n" for part in parts))


def load_street(bench: Bench, number: int, fold: int, paths: Path) -> Street:
    """The cell with its users in the order of the fold: the first are its fingerprints, the last are located."""
    place, seed = CELLS[number]
    street = Street.load(place, seed, DESIGNS[number % 2], bench.recipe(), paths)
    order = np.roll(np.arange(len(street.csi)), fold * USERS)
    return street._replace(csi=street.csi[order], positions=street.positions[order])


def measure_survey(
    bench: Bench, street: Street, fold: int, name: str, paths: Path, number: int
) -> Iterator[dict[str, Any]]:
    survey, sto, radios = SURVEYS[name]
    references = slice(0, REFERENCES)
    users = slice(len(street.csi) - min(USERS, len(street.csi) - REFERENCES), None)
    served = bench.serve(street, references, survey, sto)
    key = {"cell": street.name, "fold": fold, "survey": name}
    truth = street.positions[users]
    for label, radio in radios.items():
        csi = street.through(radio, users, 7)
        for sigma in FIXES:
            located = bench.locate(served, csi, *draw_fixes(truth, sigma, 3))
            inside, areas = measure_ellipses(located, truth, CONFIDENCES)
            level = served.calibration.levels[served.calibration.find_level(sigma)]
            yield key | {
                "kind": "ellipses",
                "radio": label,
                "fix": sigma,
                "users": len(truth),
                "answered": len(inside),
                "inside": inside.sum(axis=0).tolist(),
                "area": float(np.median(areas[:, CONFIDENCES.index(95)])),
                "constant": float(np.pi * level.radius**2),
                "median": float(np.median(areas[:, CONFIDENCES.index(50)])),
            }
    if name in ("clean", "clocked"):
        others = [Street.load(place, seed, DESIGNS[number % 2], bench.recipe(), paths) for place, seed in OTHER_CITIES]
        own: dict[str, Impairments] = {"street": STREET}
        if name == "clean":
            own = {"clean": CLEAN, "20 dB": at_snr(20), "10 dB": at_snr(10)}
        seen: dict[str, NDArray[np.complex64]] = {
            label: street.through(radio, users, 9) for label, radio in own.items()
        }
        for row in measure_foreign(bench, served, street.through(CLEAN, users, 0), truth, seen, others):
            yield key | row


if __name__ == "__main__":
    main()

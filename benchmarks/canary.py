"""How often the canary errs, on the shipped cells: circles that hold refused, and circles that do not hold passed.

``python -m benchmarks.canary`` locates all fingerprints of two florence cells, each left out, with the shipped model.
Then it draws, many times, a calibration and a canary from these errors, as the service does. A circle of a smaller
coverage has a smaller radius: the quantile of the errors. Prints a table. Takes minutes; the seed is fixed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo import DATA
from benchmarks.markdown import table
from models.artifact import MateformerManifest, load_artifact
from reference_db import CellVersion, Origin, read_fingerprint_file, replace_cell
from service.cells.calibration import conformal_quantile, label_errors
from service.cells.canary import SAMPLES, fewest_outside
from service.inference.engine import start_engine
from service.settings import Settings
from service.telemetry.metrics import Metrics

CELLS = ("florence-0000", "florence-0001")
SEED = 0
DRAWS = 20_000
COVERAGES = (0.95, 0.90, 0.85)
_OLD_SAMPLES, _OLD_MOST_OUTSIDE = 64, 8  # before there was a binomial test
_NOW = Origin("benchmark", datetime(2026, 1, 1, tzinfo=UTC))


class Rates(NamedTuple):
    """Shares of draws in which the canary refuses circles of each of `COVERAGES`, and circles just measured."""

    coverages: list[float]
    fresh: float


def main() -> None:
    settings = Settings()
    engine = start_engine(load_artifact(settings.artifact_directory, MateformerManifest), settings, Metrics())
    rules = (
        (f"{_OLD_SAMPLES} samples, more than {_OLD_MOST_OUTSIDE} outside", _OLD_SAMPLES, _OLD_MOST_OUTSIDE + 1),
        *(
            (f"{n} samples, at least {fewest_outside(n, 0.95)} outside", n, fewest_outside(n, 0.95))
            for n in (64, SAMPLES, settings.calibration_samples)
        ),
    )
    rows = []
    for cell_id in CELLS:
        cell, fingerprints = read_fingerprint_file(DATA / f"{cell_id}-references.safetensors")
        version = CellVersion.assemble(replace_cell(None, cell, fingerprints, _NOW).contents)
        started = time.perf_counter()
        errors = label_errors(engine.estimator, version, version, np.arange(len(version)), left_out=True)
        print(f"{cell_id}: {1e3 * (time.perf_counter() - started) / len(version):.1f} ms a fingerprint")
        for name, samples, fewest in rules:
            rates = measure_rates(errors, samples, fewest, settings.calibration_samples)
            shares = (*rates.coverages, rates.fresh)
            rows.append((cell_id, name, *(f"{100 * share:.1f} %" for share in shares)))
    engine.close()
    heads = [f"coverage {100 * coverage:.0f} %" for coverage in COVERAGES]
    print(table(("cell", "rule", *heads, "just calibrated"), rows))


def measure_rates(errors: NDArray[np.float64], samples: int, fewest: int, calibrated: int) -> Rates:
    """`errors` float64 `[n]` metres of a cell. A circle is refused when `fewest` of `samples` lie outside."""
    random = np.random.default_rng(SEED)
    radii = np.quantile(errors, COVERAGES)
    refused, fresh = np.zeros(len(COVERAGES)), 0
    for _ in range(DRAWS):
        drawn = errors[random.choice(len(errors), calibrated + samples, replace=False)]
        canary = drawn[calibrated:]
        refused += (canary[:, np.newaxis] > radii).sum(axis=0) >= fewest
        fresh += (canary > conformal_quantile(drawn[:calibrated], 0.95)).sum() >= fewest
    return Rates((refused / DRAWS).tolist(), fresh / DRAWS)


if __name__ == "__main__":
    main()

"""After how many users a changed street or a turned array is noticed, and how often an unchanged one is.

``python -m benchmarks.trust_drift`` reads path tables of florence before and after its streets changed
(``runs/paths-changed``, or ``--paths``). `fingerpost-train scenes trace` makes them:

    for cell in florence:0 florence-nlos:0; do
      fingerpost-train scenes trace $cell --users 2600 --street cars --out runs/paths-changed
      fingerpost-train scenes trace $cell --users 600 --skip-users 2000 --street cars-moved --out runs/paths-changed
      fingerpost-train scenes trace $cell --users 600 --skip-users 2000 --street facade --out runs/paths-changed
    done

and the same of ``florence:1 --carrier-ghz 28 --out runs/paths-changed/28GHz``. The first 2,000 users of the street with
its cars are the survey. All others are located with an honest fix, then counted in many random orders as a replica
counts them. Prints a section of Markdown. It takes ten minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.markdown import table
from models.artifact import MateformerManifest, load_artifact
from models.radio.cells import RadioCell, observe_cell
from models.radio.front_end import Radio
from models.radio.path_table import PathTable, take_users
from models.radio.rain import let_it_rain, rain_attenuation
from models.radio.street_changes import StreetState
from models.radio.survey import LABEL_SIGMA_M, describe_cell
from models.radio.tracing import table_path
from reference_db import AntennaArray, CellVersion, Fingerprints, Origin, replace_cell
from service.cells.calibration import Calibration, calibrate
from service.cells.drift import FALSE_ALARM_REQUESTS, JudgedUser, judge_user, start_counting
from service.errors import ServiceError
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.inference.user import User
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch

RADIO = Radio(array=AntennaArray(rows=1, columns=32), subcarriers=32, bandwidth=40e6, wavefronts="spherical")
SITES = ((3.5e9, "florence", 0), (3.5e9, "florence-nlos", 0), (28e9, "florence", 1))
SURVEYED = 2000
FIX_M = 3.0  # 1-sigma error of the fixes on each axis, and what they state
TURNS_DEG = (2.0, -2.0, 10.0, -10.0)
RAIN_MM_H = 50.0
ORDERS, TIMES = 100, 10
AFTERWARDS = 500
AT_ONCE = 16
HEAD = [
    "cell",
    "change",
    "belonging < 0.02, < 0.1",
    "agreement of the fix < 0.02, < 0.1",
    "refused as foreign",
    "mean error of the others m",
    "orders with an alarm",
    "users until then: median, 90 %",
    "sign",
    "turn seen 500 users later",
]

_Floats = NDArray[np.float32]


class Judged(NamedTuple):
    """Users as the service judges them, and how far their estimates are off: metres `[n]`, NaN for foreign users."""

    users: list[JudgedUser]
    errors: NDArray[np.float64]


class Alarms(NamedTuple):
    """Of many orders of the same users: after how many users each raised an alarm, if it did, and by which sign.

    `turns`: by how many degrees the array seems turned, `AFTERWARDS` users later, where that is clear.
    """

    after: list[int]
    signs: list[str]
    turns: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=Path, default=Path("runs/paths-changed"))
    print(measure_drift(parser.parse_args().paths))


def measure_drift(paths: Path) -> str:
    """A section of Markdown. Raises `FileNotFoundError`, which says how to make a missing path table."""
    settings = Settings(inference_threads=1)
    artifact = load_artifact(settings.artifact_directory, MateformerManifest)
    session = MateformerSession(artifact, 1, ["CPUExecutionProvider"])
    estimator = Estimator(session, settings.inference_batch, settings.frame_cache_bytes, Metrics())
    rows, unchanged_users, false_alarms = [], 0, 0
    for carrier, place, seed in SITES:
        folder = paths if carrier == 3.5e9 else paths / f"{carrier / 1e9:g}GHz"
        before = PathTable.load(table_path(folder, place, seed, street=StreetState.CARS))
        version = survey(before)
        calibration = calibrate(artifact, estimator, version, settings)
        for change, users in changed_users(folder, before, place, seed):
            judged = judge(session, estimator, version, calibration, users)
            alarms = count_alarms(judged, calibration)
            if change == "none":
                unchanged_users += ORDERS * TIMES * len(judged.errors)
                false_alarms += len(alarms.after)
            rows.append(describe(f"{before.site.name}, {carrier / 1e9:g} GHz", change, judged, alarms))
            print(rows[-1], flush=True)
    session.close()
    rain_db = rain_attenuation(28e9, RAIN_MM_H, vertical=True)
    return f"""## Drift

A replica tests each cell's traffic one user after the other (`service/cells/drift.py`), with at most one false alarm in
{FALSE_ALARM_REQUESTS:,} counted users. Survey: {SURVEYED:,} users of a street with six cars and a bus. Then other users
of the same street are located with a fix of {FIX_M:g} m: in the unchanged street; with the vehicles elsewhere; with a
facade clad in metal; in rain of {RAIN_MM_H:g} mm/h ({rain_db:.1f} dB/km at 28 GHz); with an array that is turned
against its description. Each change has up to 600 users. Each user comes {TIMES} times, in {ORDERS} random orders.
"Users until then" are all users until the alarm, including users who do not count because they are too close to a
counted user.

{table(HEAD, rows)}

False alarms on unchanged streets: {false_alarms} in {unchanged_users:,} users.
"""


def survey(before: PathTable) -> CellVersion:
    """The users of the first street as the fingerprints of a cell."""
    seen = observe_cell(take_users(before, 0, SURVEYED), RADIO, before.site.yaw)
    n = len(seen.csi)
    sigmas = np.full(n, LABEL_SIGMA_M, np.float32)
    fingerprints = Fingerprints(seen.csi, seen.positions, np.zeros(n), sigmas)
    cell = describe_cell(before.site, RADIO.array, RADIO.subcarriers, RADIO.bandwidth)
    return CellVersion.assemble(replace_cell(None, cell, fingerprints, Origin("benchmark", datetime.now(UTC))).contents)


def changed_users(folder: Path, before: PathTable, place: str, seed: int) -> Iterator[tuple[str, RadioCell]]:
    yaw = before.site.yaw
    same = take_users(before, SURVEYED, len(before.users))
    yield "none", observe_cell(same, RADIO, yaw)
    for change, state in (("vehicles moved", StreetState.CARS_MOVED), ("facade clad", StreetState.FACADE)):
        yield change, observe_cell(PathTable.load(table_path(folder, place, seed, street=state)), RADIO, yaw)
    if before.site.carrier_frequency == 28e9:
        yield "rain", observe_cell(let_it_rain(same, RAIN_MM_H), RADIO, yaw)
    for turn in TURNS_DEG:
        yield f"array turned by {turn:g}°", observe_cell(same, RADIO, yaw + np.radians(turn))


def judge(
    session: MateformerSession, estimator: Estimator, version: CellVersion, calibration: Calibration, users: RadioCell
) -> Judged:
    rng = np.random.default_rng(0)
    fixes = (users.positions + FIX_M * rng.standard_normal(users.positions.shape)).astype(np.float32)
    pairs = users.csi.view(np.float32).reshape(*users.csi.shape, 2)
    asked = [
        User(version, csi, fix, FIX_M, calibration.limits, calibration.belonging)
        for csi, fix in zip(pairs, fixes, strict=True)
    ]
    judged, errors = [], []
    for first in range(0, len(asked), AT_ONCE):
        found = session.submit(estimator.locate, asked[first : first + AT_ONCE], Stopwatch()).result()
        for row, one in enumerate(found, start=first):
            if (user := judge_user(calibration, one, (*fixes[row].tolist(), FIX_M))) is not None:
                judged.append(user)
                off = np.nan if isinstance(one, ServiceError) else np.linalg.norm(one.position - users.positions[row])
                errors.append(float(off))
    return Judged(judged, np.array(errors))


def count_alarms(judged: Judged, calibration: Calibration) -> Alarms:
    """Counts the users in random orders, each up to the first alarm."""
    alarms, rng = Alarms([], [], []), np.random.default_rng(1)
    for _ in range(ORDERS):
        drift = start_counting(calibration)
        order = np.concatenate([rng.permutation(len(judged.users)) for _ in range(TIMES)])
        for number, row in enumerate(order, start=1):
            drift.note(judged.users[row], float(number))
            if drift.signs:
                alarms.after.append(number)
                alarms.signs.append(drift.signs[0])
                for later in range(number, min(number + AFTERWARDS, len(order))):
                    drift.note(judged.users[order[later]], float(later))
                if (turn := drift.describe().turn) is not None:
                    alarms.turns.append(float(np.degrees(turn)))
                break
    return alarms


def describe(cell: str, change: str, judged: Judged, alarms: Alarms) -> list[str]:
    def shares(p_values: list[float]) -> str:
        return f"{np.mean(np.array(p_values) <= 0.02):.3f}, {np.mean(np.array(p_values) <= 0.1):.3f}"

    until = f"{np.median(alarms.after):.0f}, {np.quantile(alarms.after, 0.9):.0f}" if alarms.after else "-"
    signs = ", ".join(f"{sign} {alarms.signs.count(sign)}" for sign in sorted(set(alarms.signs)))
    return [
        cell,
        change,
        shares([user.belonging for user in judged.users]),
        shares([user.fix_agreement for user in judged.users if user.fix_agreement is not None]),
        f"{np.isnan(judged.errors).mean():.1%}",
        f"{np.nanmean(judged.errors):.2f}",
        f"{len(alarms.after)} of {ORDERS}",
        until,
        signs or "-",
        f"{np.median(alarms.turns):.1f}° in {len(alarms.turns)}" if alarms.turns else "-",
    ]


if __name__ == "__main__":
    main()

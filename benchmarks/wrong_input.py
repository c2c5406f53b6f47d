"""What wrong units and wrong coarse positions cost, with and without the checks of plausibility.

``python -m benchmarks.wrong_input`` calibrates the two shipped cells of florence and locates their held-out users: with
CSI in another unit, and with coarse positions that are honest or off by far more than they state. Users and
fingerprints have a perfect radio, or street radio (20 dB SNR, random phase, sampling-time offsets of 20 ns). Then it
locates the demo's trajectories, whose level nothing is compared with, with CSI in another unit. It takes twenty
minutes on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.demo_trajectories import PATH_FEATURES_SUFFIX, SUFFIX
from benchmarks.markdown import table
from models.artifact import MateformerManifest, TrajectoryManifest, load_artifact
from models.mateformer.conditions import STREET
from models.radio.impairments import impair
from reference_db import CellVersion, Fingerprints, Origin, read_fingerprint_file, replace_cell
from service.cells.calibration import Calibration, calibrate
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.inference.trajectory_estimator import Trajectory, TrajectoryEstimator
from service.inference.trajectory_session import TrajectorySession
from service.inference.user import Estimate, User
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch

CELLS = ("florence-0000", "florence-0001")
DATA = Path(__file__).parent / "data"
UNITS = (1.0, 1e-2, 0.1, 0.32, 3.1, 10.0, 100.0, 1e6)
STREET_CELL = "munich-0202"
TRAJECTORY_UNITS = UNITS
TRAJECTORY_HEAD = ["trajectories: mean m, inside", "path features measured", "only the gain measured", "none measured"]
AT_ONCE = 16
SEED = 11

_Floats = NDArray[np.float32]


class Fix(NamedTuple):
    """A coarse position off by `off` metres in a random direction; None: by a normal error of `accuracy`."""

    accuracy: float
    off: float | None


HONEST = tuple(Fix(accuracy, None) for accuracy in (1.0, 3.0, 10.0, 50.0))
WRONG = (*(Fix(1.0, off) for off in (3.0, 5.0, 8.0, 12.0, 30.0)), Fix(50.0, 60.0), Fix(50.0, 120.0))


class Site(NamedTuple):
    """A cell and its held-out users, as its radio sees them: CSI complex64 `[n, antennas, subcarriers]`."""

    version: CellVersion
    calibration: Calibration
    csi: NDArray[np.complex64]
    truth: _Floats


def main() -> None:
    settings = Settings(inference_threads=1)
    artifact = load_artifact(settings.artifact_directory, MateformerManifest)
    session = MateformerSession(artifact, 1, ["CPUExecutionProvider"])
    estimator = Estimator(session, settings.inference_batch, settings.frame_cache_bytes, Metrics())
    rows = []
    for radio, surveyed, seen in (
        ("perfect", False, False),
        ("street", True, True),
        ("only users street", False, True),
    ):
        sites = [make_site(name, surveyed, seen) for name in CELLS]
        calibrated = [
            Site(version, calibrate(artifact, estimator, version, settings), csi, truth)
            for version, csi, truth in sites
        ]
        print(f"# {radio}:", *(site.calibration.limits for site in calibrated), sep="\n#   ", flush=True)
        for case, unit, fix in cases():
            figures = [compare(session, estimator, calibrated, unit, fix, checked=checked) for checked in (False, True)]
            rows.append([radio, case, *figures])
            print(rows[-1], flush=True)
    session.close()
    head = ["radio", "case", "without the checks: mean m, inside", "with: mean m, inside, refused, fix ignored"]
    print(table(head, rows), "", table(TRAJECTORY_HEAD, trajectory_rows(settings)), sep="\n")


def cases() -> Iterator[tuple[str, float, Fix | None]]:
    for unit in UNITS:
        yield f"CSI x {unit:g}, no fix", unit, None
    for fix in HONEST:
        yield f"fix of {fix.accuracy:g} m", 1.0, fix
    for fix in WRONG:
        yield f"hAccuracy {fix.accuracy:g} m, off by {fix.off:g} m", 1.0, fix
    yield "CSI x 10, fix of 1 m", 10.0, Fix(1.0, None)


def make_site(name: str, surveyed: bool, seen: bool) -> tuple[CellVersion, NDArray[np.complex64], _Floats]:
    """`surveyed`, `seen`: whether the fingerprints and the users have street radio."""
    cell, fingerprints = read_fingerprint_file(DATA / f"{name}-references.safetensors")
    _, users = read_fingerprint_file(DATA / f"{name}-users.safetensors")
    generator = torch.Generator().manual_seed(SEED)

    def through_street_radio(csi: NDArray[np.complex64]) -> NDArray[np.complex64]:
        impaired: NDArray[np.complex64] = impair(
            torch.from_numpy(csi.copy()), STREET, cell.bandwidth, generator
        ).numpy()
        return impaired

    if surveyed:
        csi = through_street_radio(fingerprints.csi)
        fingerprints = Fingerprints(csi, fingerprints.positions, fingerprints.times, fingerprints.sigmas)
    update = replace_cell(None, cell, fingerprints, Origin("benchmark", datetime.now(UTC)))
    csi = through_street_radio(users.csi) if seen else users.csi
    return CellVersion.assemble(update.contents), csi, users.positions


def compare(
    session: MateformerSession, estimator: Estimator, sites: list[Site], unit: float, fix: Fix | None, *, checked: bool
) -> str:
    errors, inside, refused, ignored = [], [], 0, 0
    for site in sites:
        coarse = draw_fixes(site.truth, fix)
        accuracy = np.nan if fix is None else fix.accuracy
        pairs = (site.csi * np.complex64(unit)).view(np.float32).reshape(*site.csi.shape, 2)
        limits = site.calibration.limits if checked else None
        users = [User(site.version, *one, accuracy, limits) for one in zip(pairs, coarse, strict=True)]
        for first in range(0, len(users), AT_ONCE):
            some = users[first : first + AT_ONCE]
            found = session.submit(estimator.locate, some, Stopwatch()).result()
            for estimate, truth in zip(found, site.truth[first:], strict=False):
                if not isinstance(estimate, Estimate):
                    refused += 1
                    continue
                ignored += fix is not None and not estimate.coarse_used
                level = site.calibration.level(accuracy if estimate.coarse_used else None)
                errors.append(float(np.linalg.norm(estimate.position - truth)))
                inside.append(errors[-1] <= level.radius)
    figures = f"{np.mean(errors):.2f}, {np.mean(inside):.1%}" if errors else "-"
    n = sum(len(site.truth) for site in sites)
    return f"{figures}, {refused / n:.1%}, {ignored / n:.1%}" if checked else figures


def draw_fixes(truth: _Floats, fix: Fix | None) -> _Floats:
    """Coarse positions of users at `truth` `[n, 2]`, metres; NaN without a fix."""
    rng = np.random.default_rng(SEED)
    if fix is None:
        return np.full_like(truth, np.nan)
    if fix.off is None:
        return (truth + fix.accuracy * rng.standard_normal(truth.shape)).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi, len(truth))
    return (truth + fix.off * np.column_stack([np.cos(angle), np.sin(angle)])).astype(np.float32)


def trajectory_rows(settings: Settings) -> Iterator[list[str]]:
    """For each unit the mean error in metres, and the share inside the 95 % ellipse, by what the station measured."""
    assert settings.trajectory_artifact_directory is not None
    artifact = load_artifact(settings.trajectory_artifact_directory, TrajectoryManifest)
    session = TrajectorySession(artifact, 1, ["CPUExecutionProvider"])
    estimator = TrajectoryEstimator(session)
    vertices, scales = artifact.manifest.vertices, artifact.manifest.scales
    cell, users = read_fingerprint_file(DATA / f"{STREET_CELL}{SUFFIX}")
    pairs = users.csi.view(np.float32).reshape(-1, vertices, *users.csi.shape[1:], 2)
    truth = users.positions.reshape(-1, vertices, 2)
    measured = np.load(DATA / f"{STREET_CELL}{PATH_FEATURES_SUFFIX}", allow_pickle=False).reshape(-1, vertices, 4)
    gain_only = np.where(np.arange(4) == 3, measured, np.nan)
    for unit in TRAJECTORY_UNITS:
        row = [f"CSI x {unit:g}"]
        for features, known in (
            (measured, scales.measured),
            (gain_only, scales.estimated),
            (np.full_like(measured, np.nan), scales.estimated),
        ):
            sent = [Trajectory(cell, *one) for one in zip(pairs * np.float32(unit), features, strict=True)]
            located = session.submit(estimator.locate, sent, Stopwatch()).result()
            off = np.stack([one.positions[:-1] for one in located]) - truth
            precisions = np.linalg.inv(np.stack([one.covariances[:-1] for one in located]))
            squared = np.einsum("...i,...ij,...j->...", off, precisions, off)
            inside = squared <= known.vertex.at(95).factor ** 2
            row.append(f"{np.linalg.norm(off, axis=2).mean():.2f}, {inside.mean():.1%}")
        yield row
    session.close()


if __name__ == "__main__":
    main()

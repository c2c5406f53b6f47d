"""Compares an artifact with the active one in cells of the reference database, before it takes over.

The same fingerprints of a cell are located by both artifacts, each left out of its own neighbourhood.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.contents import read_contents
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.cells.examiner import Examiner
from service.cells.store_errors import translate_store_errors
from service.errors import CellUnreadable, InferenceFailed, NotReady
from service.inference.engine import LwlmEngine, MateformerEngine, TrajectoryEngine
from service.inference.lwlm_estimator import MeasuredUser, Snapshot
from service.inference.trajectory_estimator import Trajectory
from service.telemetry.stopwatch import Stopwatch

MOST_CELLS = 16  # loaded for the check, beside the cells in memory
_LONGEST_S = 60.0  # no further cell is loaded after this time
_SAMPLES = 64  # fingerprints or trajectories of a cell
_FEWEST = 8  # a median of fewer says nothing
_AT_ONCE = 8
# The largest median error accepted. Both artifacts locate the same fingerprints, so the comparison is hardly noisy.
_FACTOR, _MARGIN_M = 1.5, 0.1

Measure = Callable[[CellVersion], tuple[NDArray[np.float64], NDArray[np.float64]]]
_Errors = NDArray[np.float64]


class CellFailure(NamedTuple):
    """A cell whose users the artifact locates far worse."""

    cell_id: str
    reason: str


class CellComparison(NamedTuple):
    """Median errors of both artifacts on a cell's own fingerprints, metres; None where most have no answer."""

    cell_id: str
    before: float | None
    after: float | None


class CellChecks(NamedTuple):
    """`compared`: the checked ones of the `cells` that the active artifact serves; `failed` are among them."""

    cells: int
    compared: tuple[CellComparison, ...]
    failed: tuple[CellFailure, ...]

    @property
    def checked(self) -> int:
        return len(self.compared)

    @property
    def complaint(self) -> str | None:
        """Why the artifact should not take over."""
        if not self.checked:
            return f"none of the {self.cells} cells that the active artifact serves could be checked"
        if not self.failed:
            return None
        first = self.failed[0]
        also = ", ".join(one.cell_id for one in self.failed[1:])
        return f"cell {first.cell_id}: {first.reason} ({len(self.failed)} of {self.checked} cells checked failed" + (
            f", also {also})" if also else ")"
        )


def check_cells(
    store: Store,
    serveable: Mapping[str, Manifest],
    held: Mapping[str, CellVersion],
    measure: Measure,
    seed: int,
    stopped: Callable[[], bool],
) -> CellChecks:
    """Checks the cells `held` in memory, and a random sample of the other `serveable` ones. Blocking; takes seconds.

    `measure` returns the errors of both artifacts in metres, float64 `[n]` each, NaN where there is no answer. Raises
    `OutOfMemory`, `ExaminerEnded`, `StoreDown`, or `NotReady` once `stopped` returns true.
    """
    compared, failed = [], []
    for cell_id, version in _take_cells(store, serveable, held, seed):
        if stopped():
            raise NotReady("the service is stopping")
        try:
            before, after = measure(version)
            if len(before) < _FEWEST:
                continue
            reason = compare_errors(before, after)
            compared.append(CellComparison(cell_id, *map(_finite, (_median(before), _median(after)))))
        except InferenceFailed as error:
            reason = error.reason
            compared.append(CellComparison(cell_id, None, None))
        if reason is not None:
            failed.append(CellFailure(cell_id, reason))
    return CellChecks(len(serveable), tuple(compared), tuple(failed))


def compare_errors(before: _Errors, after: _Errors) -> str | None:
    """Says how far an artifact is worse than the one before, None unless it is far. NaN counts as the worst error."""
    usual, now = _median(before), _median(after)
    if now <= _FACTOR * usual + _MARGIN_M:
        return None
    if np.isinf(now):
        return "the model has no answer for most of the cell's own fingerprints"
    return f"the median error on the cell's own fingerprints rises from {usual:.2f} m to {now:.2f} m"


def _median(errors: _Errors) -> float:
    return float(np.median(np.nan_to_num(errors, nan=np.inf)))


def _finite(median: float) -> float | None:
    return median if np.isfinite(median) else None


def measure_by_fingerprints(
    active: MateformerEngine, other: MateformerEngine, examiner: Examiner, seed: int
) -> Measure:
    """For artifacts that locate by fingerprints."""

    def measure(version: CellVersion) -> tuple[_Errors, _Errors]:
        rows = np.random.default_rng(seed).choice(len(version), min(_SAMPLES, len(version)), replace=False)
        before, after = (examiner.measure_errors(engine, version, np.sort(rows)) for engine in (active, other))
        return before, after

    return measure


def measure_by_trajectories(active: TrajectoryEngine, other: TrajectoryEngine, seed: int) -> Measure:
    """For artifacts that locate trajectories: fingerprints near each other stand for the snapshots of a user."""

    def measure(version: CellVersion) -> tuple[_Errors, _Errors]:
        manifest = active.artifact.manifest
        rows = sample_trajectories(version.positions, manifest.vertices, manifest.radius, seed)
        before, after = (_trajectory_errors(engine, version, rows) for engine in (active, other))
        return before, after

    return measure


def measure_by_snapshots(active: LwlmEngine, other: LwlmEngine, seed: int) -> Measure:
    """For artifacts that locate by the base station alone: fingerprints stand for users."""

    def measure(version: CellVersion) -> tuple[_Errors, _Errors]:
        rows = np.random.default_rng(seed).choice(len(version), min(_SAMPLES, len(version)), replace=False)
        before, after = (_snapshot_errors(engine, version, np.sort(rows)) for engine in (active, other))
        return before, after

    return measure


def sample_trajectories(positions: NDArray[np.float32], vertices: int, radius: float, seed: int) -> NDArray[np.int64]:
    """Rows int64 `[k, vertices]`: at most 64 random ones of `positions` `[n, 2]`, each with the nearest in `radius`."""
    found: list[NDArray[np.int64]] = []
    for row in np.random.default_rng(seed).permutation(len(positions)):
        away = np.linalg.norm(positions - positions[row], axis=1)
        near = np.argsort(away, kind="stable")[:vertices]
        if len(near) == vertices and away[near[-1]] <= radius:
            found.append(near)
        if len(found) == _SAMPLES:
            break
    return np.array(found, np.int64).reshape(-1, vertices)


def _trajectory_errors(engine: TrajectoryEngine, version: CellVersion, rows: NDArray[np.int64]) -> _Errors:
    """Mean distance of the vertices from their labels, float64 `[k]` metres."""
    errors = []
    for first in range(0, len(rows), _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        unmeasured = np.full((some.shape[1], 4), np.nan)
        users = [Trajectory(version.cell, version.csi_of(one), unmeasured) for one in some]
        located = engine.session.submit(engine.estimator.locate, users, Stopwatch()).result()
        found = np.stack([one.positions[:-1] for one in located])
        errors.append(np.linalg.norm(found - version.positions[some], axis=2).mean(axis=1))
    return np.concatenate([np.zeros(0), *errors]).astype(np.float64)


def _snapshot_errors(engine: LwlmEngine, version: CellVersion, rows: NDArray[np.int64]) -> _Errors:
    """Distances from the labels, float64 `[n]` metres; NaN where there is no answer."""
    found = []
    for first in range(0, len(rows), _AT_ONCE):
        users = [(Snapshot(version.cell, csi),) for csi in version.csi_of(rows[first : first + _AT_ONCE])]
        found += engine.session.submit(engine.estimator.locate, users, Stopwatch()).result()
    located = [one.stations[0].position if isinstance(one, MeasuredUser) else (np.nan, np.nan) for one in found]
    errors: _Errors = np.linalg.norm(np.array(located) - version.positions[rows], axis=1)
    return errors


def _take_cells(
    store: Store, serveable: Mapping[str, Manifest], held: Mapping[str, CellVersion], seed: int
) -> Iterator[tuple[str, CellVersion]]:
    """Cells in memory, then others in random order, until there are enough or the time is over."""
    yield from ((cell_id, version) for cell_id, version in held.items() if cell_id in serveable)
    others = sorted(serveable.keys() - held.keys())
    deadline = time.monotonic() + _LONGEST_S
    for index in np.random.default_rng(seed).permutation(len(others))[:MOST_CELLS]:
        if time.monotonic() > deadline:
            return
        version = _load_cell(store, serveable[others[index]])
        if version is not None:
            yield others[index], version


def _load_cell(store: Store, manifest: Manifest) -> CellVersion | None:
    """None if the cell has no fingerprints or is damaged: it is not served either."""
    if not manifest.fingerprints:
        return None
    try:
        with translate_store_errors():
            return CellVersion.assemble(read_contents(store, manifest))
    except CellUnreadable:
        return None

"""What an artifact must keep of the one that it replaces: its cells, and how many snapshots clients may send."""

from collections.abc import Callable, Sequence
from functools import partial

from models.artifact import LwlmManifest, MateformerArtifact, MateformerManifest, TrajectoryManifest
from reference_db.errors import CorruptManifest
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.cells.calibration import check_serves
from service.cells.stations import check_station
from service.cells.store_errors import translate_store_errors
from service.cells.trajectories import check_learned
from service.errors import ArtifactRefused, ServiceError, overridden_by_force


def check_tracks(before: MateformerManifest, after: MateformerManifest) -> None:
    """Raises `ArtifactRefused` if clients' trajectories and tracks would not be located together any more."""
    if before.tracks is None or (after.tracks is not None and after.tracks.snapshots >= before.tracks.snapshots):
        return
    most = 1 if after.tracks is None else after.tracks.snapshots
    with overridden_by_force("activates it anyway"):
        raise ArtifactRefused(
            f"locates {most} of a user's snapshots together at most, but clients send {before.tracks.snapshots}"
        )


def find_served(
    store: Store, before: MateformerArtifact, after: MateformerArtifact, confidence: float
) -> dict[str, Manifest]:
    """The cells whose users both artifacts locate. Raises `ArtifactRefused` or `StoreDown`."""
    return _find_kept(
        store,
        _list_cells(store),
        lambda version: check_serves(before, version, confidence),
        lambda version: check_serves(after, version, confidence),
    )


def find_learned(store: Store, before: TrajectoryManifest, after: TrajectoryManifest) -> dict[str, Manifest]:
    """The cells whose trajectories both artifacts locate. Raises `ArtifactRefused` or `StoreDown`."""
    if after.vertices != before.vertices:
        raise ArtifactRefused(f"takes {after.vertices} snapshots, but clients send {before.vertices}")
    return _find_kept(store, before.cells, partial(check_learned, before), partial(check_learned, after))


def find_stations(store: Store, before: LwlmManifest, after: LwlmManifest) -> dict[str, Manifest]:
    """The cells whose snapshots both artifacts measure. Raises `ArtifactRefused` or `StoreDown`."""
    return _find_kept(store, _list_cells(store), partial(check_station, before), partial(check_station, after))


def _find_kept(
    store: Store, cell_ids: Sequence[str], before: Callable[[Manifest], None], after: Callable[[Manifest], None]
) -> dict[str, Manifest]:
    """The cells that pass `before`. Raises `ArtifactRefused` if one of them does not pass `after`."""
    kept = {}
    for cell_id in cell_ids:
        version = _find_current(store, cell_id)
        try:
            if version is None:
                continue
            before(version)
        except ServiceError:
            continue
        try:
            after(version)
        except ServiceError as error:
            raise ArtifactRefused(f"cell {cell_id}: {error.reason}") from error
        kept[cell_id] = version
    return kept


def _list_cells(store: Store) -> list[str]:
    with translate_store_errors():
        return store.cells()


def _find_current(store: Store, cell_id: str) -> Manifest | None:
    """None if the version does not exist or is damaged: neither artifact serves it."""
    with translate_store_errors():
        try:
            return store.current(cell_id)
        except CorruptManifest:
            return None

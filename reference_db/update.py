"""Makes new versions of cells from old ones. These functions are pure: they store nothing.

Appended fingerprints become new segments, which extend the indices. Deleted fingerprints only get tombstones. From
time to time a version compacts both (see `version_plan`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from reference_db.cell import Cell
from reference_db.contents import Contents
from reference_db.errors import BadFingerprint, BadUpdate
from reference_db.fingerprints import FARTHEST_M, Fingerprints, check_fingerprints, check_times, fingerprint_ids
from reference_db.geodesy import LocalFrame
from reference_db.manifest import FORGOTTEN, Action, Change, Manifest, ModelPolicy, RequestKey, SegmentReference
from reference_db.retention import Retention
from reference_db.segment import Segment, digest_of
from reference_db.version_plan import VersionPlan


@dataclass(frozen=True)
class Origin:
    """The author of a change, its time (with a time zone), a note, and the key that identifies a repeated request."""

    author: str
    now: datetime
    note: str = ""
    request: RequestKey | None = None


@dataclass(frozen=True, eq=False)
class Update:
    """A version that is not published yet, and the bytes of the segments that its predecessor does not have.

    Publishing it removes the versions with the numbers `without` from the store.
    """

    contents: Contents
    segments: tuple[bytes, ...]
    without: tuple[int, ...] = ()

    @property
    def manifest(self) -> Manifest:
        return self.contents.manifest

    def with_quality(self, quality: dict[str, JsonValue]) -> "Update":
        """The same update with more measurements of its quality."""
        return replace(self, contents=replace(self.contents, manifest=self.manifest.with_quality(quality)))


def replace_cell(before: Manifest | None, cell: Cell, fingerprints: Fingerprints | None, origin: Origin) -> Update:
    """Creates a cell, with or without fingerprints, or replaces its description and all its fingerprints.

    Raises `BadFingerprint` or `TooFewFingerprints` for fingerprints that the cell does not accept. Raises `BadUpdate`
    if an existing cell would be left without fingerprints or get another id.
    """
    if before is not None and before.cell.cell_id != cell.cell_id:
        raise BadUpdate(f"cell {before.cell.cell_id!r} cannot become cell {cell.cell_id!r}")
    if fingerprints is None:
        if before is not None:
            raise BadUpdate(f"cell {cell.cell_id!r} exists already; replacing it needs fingerprints")
        segments = []
    else:
        check_fingerprints(fingerprints, cell)
        check_times(fingerprints.times, origin.now)
        segments = Segment.of(fingerprints).parts()
    plan = VersionPlan(segments, np.zeros(0, np.uint64), len(segments))
    added = sum(map(len, segments))
    removed = 0 if before is None else before.fingerprints
    retention = Retention() if before is None else before.retention
    action: Action = "created" if before is None else "replaced"
    return _make_update(before, plan, cell, retention, action, added, removed, origin)


def append_fingerprints(before: Contents, fingerprints: Fingerprints, origin: Origin) -> Update:
    """Adds fingerprints to a cell and deletes those that its retention no longer keeps.

    A deleted fingerprint that is appended again comes back in its old place. Raises `BadFingerprint` or
    `TooFewFingerprints` for fingerprints that the cell does not accept or already has.
    """
    check_fingerprints(fingerprints, before.manifest.cell)
    check_times(fingerprints.times, origin.now)
    new = Segment.of(fingerprints)
    known = np.isin(new.ids, before.ids)
    if known.any():
        raise BadFingerprint(int(known.argmax()), "the cell already has this fingerprint")
    plan = VersionPlan.continuing(before)
    revived = np.isin(new.ids, plan.tombstones)
    plan.revive(new.ids)
    if not revived.all():
        plan.segments += new.rows(~revived).parts()
    return _finish(before, plan, before.manifest.retention, "appended", len(new), origin)


def delete_fingerprints(before: Contents, doomed: NDArray[np.bool_], origin: Origin) -> Update:
    """Deletes the fingerprints of a cell that `doomed` marks, bool `[n]` in the order of `before.ids`.

    Raises `BadUpdate` if it marks none.
    """
    if not doomed.any():
        raise BadUpdate("no fingerprint of the cell is selected")
    plan = VersionPlan.continuing(before)
    plan.bury(before.ids[doomed])
    return _finish(before, plan, before.manifest.retention, "deleted", 0, origin)


def forget_fingerprints(before: Contents, doomed: NDArray[np.bool_], without: Sequence[int], origin: Origin) -> Update:
    """Removes fingerprints for good: rewrites their segments, and removes the versions `without` with the publication.

    `doomed` marks the fingerprints, bool `[n]` in the order of `before.with_deleted().ids`: those deleted before as
    well, because their segments still hold them. It may mark none if only old versions hold the fingerprints. Raises
    `BadUpdate` if it marks none and `without` is empty.
    """
    if not (doomed.any() or without):
        raise BadUpdate("no fingerprint of any version is selected")
    plan = VersionPlan.continuing(before)
    plan.erase(before.with_deleted().ids[doomed])
    update = _finish(before, plan, before.manifest.retention, "forgotten", 0, origin)
    erased: JsonValue = {"fingerprints": int(doomed.sum()), "versions": list(without)}
    return replace(update.with_quality({FORGOTTEN: erased}), without=tuple(without))


def correct_cell(before: Contents, cell: Cell, origin: Origin, *, stay: bool = False) -> Update:
    """Corrects the description of a cell. Its fingerprints keep their positions in metres from the base station.

    If the base station moves, they move with it on Earth; with `stay`, they stay where they are on Earth instead, and
    get new positions in metres and new ids. Raises `BadUpdate` if nothing changes, if the description contradicts the
    shape of the stored CSI, or if a fingerprint would lie outside the cell's area.
    """
    manifest = before.manifest
    if cell == manifest.cell:
        raise BadUpdate("the cell is described like this already")
    for name, new, old in (
        ("id", cell.cell_id, manifest.cell.cell_id),
        ("number of antennas", cell.antennas, manifest.cell.antennas),
        ("number of subcarriers", cell.subcarriers, manifest.cell.subcarriers),
    ):
        if new != old:
            raise BadUpdate(f"the cell's {name} is {old} and cannot become {new} without new fingerprints")
    moved = (cell.latitude_deg, cell.longitude_deg) != (manifest.cell.latitude_deg, manifest.cell.longitude_deg)
    if stay and moved and len(before):
        segments = [
            _shift(segment if kept is None else segment.rows(kept), manifest.cell, cell)
            for segment, kept in zip(before.segments, before.kept, strict=True)
        ]
        plan = VersionPlan(segments, np.zeros(0, np.uint64), manifest.indexed)
    else:
        plan = VersionPlan.continuing(before)
    update = _make_update(manifest, plan, cell, manifest.retention, "corrected", 0, 0, origin)
    if cell.area is not None and not cell.area.holds(update.contents.positions).all():
        raise BadUpdate("fingerprints lie outside the area")
    return update


def set_retention(before: Contents, retention: Retention, origin: Origin) -> Update:
    """Sets the retention of a cell and applies it."""
    return _finish(before, VersionPlan.continuing(before), retention, "retention set", 0, origin)


def apply_retention(before: Contents, origin: Origin) -> Update | None:
    """Deletes the fingerprints that the cell's retention no longer keeps. Returns None if it keeps all."""
    update = _finish(before, VersionPlan.continuing(before), before.manifest.retention, "thinned", 0, origin)
    return update if update.manifest.change.removed else None


def set_model_policy(before: Contents, model: ModelPolicy, origin: Origin) -> Update:
    """Sets which model family may locate users in a cell. Raises `BadUpdate` if that is the policy already.

    Everything else stays the same, including the quality measured for the previous version.
    """
    if model == before.manifest.model:
        raise BadUpdate(f"the cell's policy is already {model}")
    contents = replace(before, manifest=before.manifest.with_fields(model=model))
    return _restate(before.manifest, contents, _change("model set", 0, 0, origin), origin)


def roll_back(before: Manifest, target: Contents, origin: Origin, left: Contents | None = None) -> Update:
    """Makes an older version current again: its description, fingerprints, policies and quality.

    `left`: the contents of the version before, to count the fingerprints that come back and go. None: they cannot be
    read, and all fingerprints count as replaced.
    """
    kept = 0 if left is None else len(np.intersect1d(left.ids, target.ids, assume_unique=True))
    change = _change("rolled back", len(target) - kept, before.fingerprints - kept, origin)
    return _restate(before, target, change, origin)


def _restate(before: Manifest, contents: Contents, change: Change, origin: Origin) -> Update:
    """The version after `before`, whose contents are stored already."""
    manifest = contents.manifest.with_fields(
        number=before.number + 1, parent=before.digest, created_at=origin.now, change=change
    )
    return Update(replace(contents, manifest=manifest), ())


def _change(action: Action, added: int, removed: int, origin: Origin) -> Change:
    return Change(
        action=action,
        added=added,
        removed=removed,
        author=origin.author,
        note=origin.note,
        request=origin.request,
    )


def _finish(
    before: Contents, plan: VersionPlan, retention: Retention, action: Action, added: int, origin: Origin
) -> Update:
    """Applies the retention to a plan, compacts it, and makes the update."""
    alive = plan.alive()
    if any(rows.any() for rows in alive):
        pairs = list(zip(plan.segments, alive, strict=True))
        ids, positions, times = (
            np.concatenate([getattr(segment, name)[rows] for segment, rows in pairs])
            for name in ("ids", "positions", "times")
        )
        plan.bury(ids[~retention.kept(positions, times, origin.now.timestamp())])
    plan.compact()
    left = sum(map(len, plan.segments)) - len(plan.tombstones)
    removed = len(before) + added - left
    return _make_update(before.manifest, plan, before.manifest.cell, retention, action, added, removed, origin)


def _shift(segment: Segment, before: Cell, after: Cell) -> Segment:
    """The same fingerprints at the same places on Earth, in metres from the base station of `after`.

    Raises `BadUpdate` for a base station so far away that there are no such metres.
    """
    old, new = (LocalFrame(cell.latitude_deg, cell.longitude_deg) for cell in (before, after))
    places = [new.to_local(*old.to_wgs84(east, north)) for east, north in segment.positions.tolist()]
    positions = np.array(places, np.float32).reshape(-1, 2)
    if not (np.abs(positions) <= FARTHEST_M).all():
        raise BadUpdate(f"fingerprints would lie more than {FARTHEST_M / 1e3:g} km from the base station")
    labels = (positions, segment.times, segment.sigmas)
    return Segment(segment.csi, segment.scale, *labels, fingerprint_ids(segment.csi, segment.scale, *labels))


def _make_update(
    before: Manifest | None,
    plan: VersionPlan,
    cell: Cell,
    retention: Retention,
    action: Action,
    added: int,
    removed: int,
    origin: Origin,
) -> Update:
    written = {id(one): one.to_bytes() for one in plan.segments if id(one) not in plan.references}
    references = [
        plan.references.get(id(one)) or SegmentReference(digest=digest_of(written[id(one)]), count=len(one))
        for one in plan.segments
    ]
    manifest = Manifest(
        cell=cell,
        number=1 if before is None else before.number + 1,
        parent=None if before is None else before.digest,
        segments=tuple(references),
        indexed=plan.indexed,
        tombstones=tuple(plan.tombstones.tolist()),
        retention=retention,
        model="auto" if before is None else before.model,
        quality={},
        created_at=origin.now,
        change=_change(action, added, removed, origin),
    )
    contents = Contents.of(manifest, plan.segments)
    return Update(contents, tuple(written.values())).with_quality({"survey": _survey(contents)})


def _survey(contents: Contents) -> JsonValue:
    """Extent in metres, times in Unix seconds and the largest label error in metres; None without fingerprints."""
    if not len(contents):
        return None
    measured = contents.times[contents.times > 0]
    low, high = contents.positions.min(axis=0).tolist(), contents.positions.max(axis=0).tolist()
    return {
        "extent": list(chain(low, high)),
        "oldest": float(measured.min()) if len(measured) else None,
        "newest": float(measured.max()) if len(measured) else None,
        "largest_sigma": float(contents.sigmas.max()),
    }

"""New versions of cells, made of old ones: pure, nothing is stored here.

Fingerprints that are appended become segments of their own, which extend the indices of those before; what is deleted
is only marked. So that neither costs more and more, some versions tidy up: their indices are made anew of everything,
small segments are joined, and marked fingerprints are left out (see `version_plan`).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from reference_db.cell import Cell
from reference_db.contents import Contents
from reference_db.errors import BadFingerprint, BadUpdate
from reference_db.fingerprints import Fingerprints, check_fingerprints
from reference_db.manifest import Action, Change, Manifest, ModelPolicy, RequestKey, SegmentReference
from reference_db.retention import Retention
from reference_db.segment import Segment, digest_of
from reference_db.version_plan import VersionPlan


@dataclass(frozen=True)
class Origin:
    """Who wants a change, when (with a time zone) and why; `request` is by what it would be known again."""

    author: str
    now: datetime
    note: str = ""
    request: RequestKey | None = None


@dataclass(frozen=True, eq=False)
class Update:
    """A version not yet published, and the bytes of those of its segments that the one before does not have."""

    contents: Contents
    segments: tuple[bytes, ...]

    @property
    def manifest(self) -> Manifest:
        return self.contents.manifest

    def with_quality(self, quality: dict[str, JsonValue]) -> "Update":
        """The same with more known of its quality."""
        return replace(self, contents=replace(self.contents, manifest=self.manifest.with_quality(quality)))


def replace_cell(before: Manifest | None, cell: Cell, fingerprints: Fingerprints | None, origin: Origin) -> Update:
    """Creates a cell, with fingerprints or still without, or replaces its description and all its fingerprints.

    Raises `BadFingerprint` or `TooFewFingerprints` for fingerprints that the cell does not accept, and `BadUpdate`
    where a cell that is there would be replaced by nothing, or by another cell.
    """
    if before is not None and before.cell.cell_id != cell.cell_id:
        raise BadUpdate(f"cell {before.cell.cell_id!r} cannot become cell {cell.cell_id!r}")
    if fingerprints is None:
        if before is not None:
            raise BadUpdate(f"cell {cell.cell_id!r} is there already; to replace it takes fingerprints")
        segments = []
    else:
        check_fingerprints(fingerprints, cell)
        segments = Segment.of(fingerprints).parts()
    plan = VersionPlan(segments, np.zeros(0, np.uint64), len(segments))
    added = sum(map(len, segments))
    removed = 0 if before is None else before.fingerprints
    retention = Retention() if before is None else before.retention
    return _update(before, plan, cell, retention, "created" if before is None else "replaced", added, removed, origin)


def append_fingerprints(before: Contents, fingerprints: Fingerprints, origin: Origin) -> Update:
    """Adds fingerprints to a cell, and takes from it what its retention no longer keeps.

    Raises `BadFingerprint` or `TooFewFingerprints` for fingerprints that the cell does not accept, one that it holds
    already included. One that was deleted comes back where it was.
    """
    check_fingerprints(fingerprints, before.manifest.cell)
    new = Segment.of(fingerprints)
    known = np.isin(new.ids, before.ids)
    if known.any():
        raise BadFingerprint(int(known.argmax()), "the cell holds this fingerprint already")
    plan = VersionPlan.continuing(before)
    revived = np.isin(new.ids, plan.tombstones)
    plan.revive(new.ids)
    if not revived.all():
        plan.segments += new.rows(~revived).parts()
    return _retained(before, plan, before.manifest.retention, "appended", len(new), origin)


def delete_fingerprints(before: Contents, doomed: NDArray[np.bool_], origin: Origin) -> Update:
    """Takes fingerprints from a cell, `doomed` bool `[n]` in the order of `before.ids`.

    Raises `BadUpdate` where none is.
    """
    if not doomed.any():
        raise BadUpdate("no fingerprint of the cell is meant")
    plan = VersionPlan.continuing(before)
    plan.bury(before.ids[doomed])
    return _retained(before, plan, before.manifest.retention, "deleted", 0, origin)


def set_retention(before: Contents, retention: Retention, origin: Origin) -> Update:
    """Gives a cell another retention, which takes effect at once."""
    return _retained(before, VersionPlan.continuing(before), retention, "retention set", 0, origin)


def apply_retention(before: Contents, origin: Origin) -> Update | None:
    """Takes from a cell what its retention no longer keeps; None where it keeps everything."""
    update = _retained(before, VersionPlan.continuing(before), before.manifest.retention, "thinned", 0, origin)
    return update if update.manifest.change.removed else None


def set_model_policy(before: Contents, model: ModelPolicy, origin: Origin) -> Update:
    """Says which networks may locate users in a cell. Raises `BadUpdate` where it is so already.

    Everything else stays, what was measured of the version before included.
    """
    if model == before.manifest.model:
        raise BadUpdate(f"the cell's policy is {model} already")
    asked = replace(before, manifest=before.manifest.with_fields(model=model))
    return _following(before.manifest, asked, _change("model set", 0, 0, origin), origin)


def roll_back(before: Manifest, target: Contents, origin: Origin) -> Update:
    """Publishes an older version of the cell once more: its description, fingerprints, policies and quality."""
    return _following(before, target, _change("rolled back", len(target), before.fingerprints, origin), origin)


def _following(before: Manifest, contents: Contents, change: Change, origin: Origin) -> Update:
    """Stored contents as the version after `before`."""
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


def _retained(
    before: Contents, plan: VersionPlan, retention: Retention, action: Action, added: int, origin: Origin
) -> Update:
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
    return _update(before.manifest, plan, before.manifest.cell, retention, action, added, removed, origin)


def _update(
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
    """What can be told of fingerprints without locating anybody: metres and Unix seconds."""
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

"""What an operator changes of one cell, and what such a change would do."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypedDict, Unpack
from uuid import uuid4

from pydantic import BaseModel

from fingerpost.cell_calls import SUFFIXES, AboutCell, cell_path, present
from fingerpost.exchange import Attempt, Exchange, ask
from fingerpost.fingerprints import Fingerprints
from fingerpost.wire import CELL_HEADER
from fingerpost.wire_cells import (
    CellCorrection,
    CellDescription,
    CellDetail,
    CellModel,
    CellRetention,
    ModelPolicy,
    RetentionPreview,
)
from fingerpost.wire_fingerprints import ForgettingPreview, Forgotten, Preview, Selection
from fingerpost.wire_survey import SurveyReport
from fingerpost.wire_truths import Truth, TruthsRequest, TruthsResponse
from fingerpost.wire_versions import RemovedVersions, Rollback

_JSON, _FILE = "application/json", "application/octet-stream"

FingerprintSource: TypeAlias = Fingerprints | Path


class _Body(NamedTuple):
    """A file is sent in parts."""

    content: bytes | Path
    media_type: str


class Change(TypedDict, total=False):
    """Who makes a change, why, and on what condition.

    The service keeps `author` and `note` with the version. With `if_match` the change is made only if this is the
    cell's current version, such as `CellDetail.version`. `force` publishes even if users would be located far worse,
    the survey looks wrong or no model serves the cell. Each change has a random `idempotency_key`, so that the client
    may send it again after a broken connection; give your own to be safe across restarts of your program.
    """

    author: str
    note: str
    if_match: str
    idempotency_key: str
    force: bool


def create(
    cell: AboutCell,
    description: CellDescription | None = None,
    fingerprints: FingerprintSource | None = None,
    **change: Unpack[Change],
) -> Exchange[CellDetail]:
    """Creates the cell, which must not exist. It may start without fingerprints.

    `description` may be that of another cell, as `show` answers it. A fingerprint file brings its own.
    """
    attempt = _change(cell, "PUT", [], change, _cell_body(cell, description, fingerprints))
    return ask(attempt._replace(headers={**attempt.headers, "If-None-Match": "*"}), CellDetail)


def replace(
    cell: AboutCell,
    fingerprints: FingerprintSource | None = None,
    description: CellDescription | None = None,
    **change: Unpack[Change],
) -> Exchange[CellDetail]:
    """Replaces all fingerprints of the cell, its description, or both. Creates the cell if it does not exist."""
    return ask(_change(cell, "PUT", [], change, _cell_body(cell, description, fingerprints)), CellDetail)


def preview_replacement(
    cell: AboutCell,
    fingerprints: FingerprintSource | None = None,
    description: CellDescription | None = None,
) -> Exchange[SurveyReport]:
    """What the service sees in a survey, and whether `create` or `replace` would publish it. Publishes nothing."""
    return ask(_dry(_change(cell, "PUT", [], Change(), _cell_body(cell, description, fingerprints))), SurveyReport)


def preview_append(cell: AboutCell, fingerprints: FingerprintSource) -> Exchange[SurveyReport]:
    """What the service sees in fingerprints, and whether `append` would publish them. Publishes nothing."""
    return ask(_dry(_change(cell, "POST", ["fingerprints"], Change(), _file(fingerprints))), SurveyReport)


def append(cell: AboutCell, fingerprints: FingerprintSource, **change: Unpack[Change]) -> Exchange[CellDetail]:
    """Adds fingerprints: arrays, or a file, .safetensors or .npz."""
    return ask(_change(cell, "POST", ["fingerprints"], change, _file(fingerprints)), CellDetail)


def correct(cell: AboutCell, correction: CellCorrection, **change: Unpack[Change]) -> Exchange[CellDetail]:
    """Corrects fields of the description. The fingerprints are not sent again."""
    return ask(_change(cell, "PATCH", [], change, _json(correction)), CellDetail)


def delete_fingerprints(cell: AboutCell, selection: Selection, **change: Unpack[Change]) -> Exchange[CellDetail]:
    """Deletes the fingerprints that meet all criteria. Older versions keep them; see `forget_fingerprints`."""
    return ask(_change(cell, "POST", ["fingerprints", "delete"], change, _json(selection)), CellDetail)


def preview_deletion(cell: AboutCell, selection: Selection) -> Exchange[Preview]:
    """Counts the fingerprints that `delete_fingerprints` would delete."""
    return ask(_dry(_change(cell, "POST", ["fingerprints", "delete"], Change(), _json(selection))), Preview)


def forget_fingerprints(cell: AboutCell, selection: Selection, **change: Unpack[Change]) -> Exchange[Forgotten]:
    """Removes the fingerprints that meet all criteria from every version, for good. No rollback brings them back."""
    return ask(_change(cell, "POST", ["fingerprints", "forget"], change, _json(selection)), Forgotten)


def preview_forgetting(cell: AboutCell, selection: Selection) -> Exchange[ForgettingPreview]:
    """Counts the fingerprints and names the versions that `forget_fingerprints` would remove."""
    return ask(_dry(_change(cell, "POST", ["fingerprints", "forget"], Change(), _json(selection))), ForgettingPreview)


def set_retention(cell: AboutCell, retention: CellRetention, **change: Unpack[Change]) -> Exchange[CellDetail]:
    """Sets how old, how many and how dense fingerprints may be. Applies at once and from then on."""
    return ask(_change(cell, "PUT", ["retention"], change, _json(retention)), CellDetail)


def preview_retention(cell: AboutCell, retention: CellRetention) -> Exchange[RetentionPreview]:
    """Counts the fingerprints that `set_retention` would remove at once, and says why."""
    return ask(_dry(_change(cell, "PUT", ["retention"], Change(), _json(retention))), RetentionPreview)


def set_model(cell: AboutCell, policy: ModelPolicy, **change: Unpack[Change]) -> Exchange[CellDetail]:
    """Sets which models may locate users in the cell."""
    return ask(_change(cell, "PUT", ["model"], change, _json(CellModel(policy=policy))), CellDetail)


def roll_back(cell: AboutCell, version: str | int, **change: Unpack[Change]) -> Exchange[CellDetail]:
    """Publishes an older version again, by its name or number, as the newest."""
    return ask(_change(cell, "POST", ["rollback"], change, _json(Rollback(version=version))), CellDetail)


def delete(cell: AboutCell, **change: Unpack[Change]) -> Exchange[RemovedVersions]:
    """Deletes the cell with all its versions, for good. Needs `if_match` with the current version, or `force`."""
    return ask(_change(cell, "DELETE", [], change)._replace(harmless=False), RemovedVersions)


def score_truths(
    cell: AboutCell,
    truths: Sequence[Truth],
    *,
    append_proposed: bool = False,
    key_id: str | None = None,
    **change: Unpack[Change],
) -> Exchange[TruthsResponse]:
    """Compares answers with surveyed truths, at most 256; see `build_truth`.

    `append_proposed` appends the truths that would pay as fingerprints; `change` is for that. `key_id` is the public id
    of the API key that got the answers, if it is another one than this client's.
    """
    attempt = _change(cell, "POST", ["truths"], change, _json(TruthsRequest(items=list(truths))))
    asked = {"append": "proposed" if append_proposed else None, "keyId": key_id}
    return ask(attempt._replace(params={**attempt.params, **present(asked)}), TruthsResponse)


def _change(cell: AboutCell, method: str, parts: Sequence[str], change: Change, body: _Body | None = None) -> Attempt:
    if unknown := change.keys() - Change.__annotations__.keys():
        raise TypeError(f"a change takes no {', '.join(sorted(unknown))}; it takes {', '.join(Change.__annotations__)}")
    for name in ("if_match", "idempotency_key"):
        if not re.fullmatch("[ -~]*", str(change.get(name, ""))):
            raise ValueError(f"{name} has characters other than printable ASCII")
    sent = {"author": change.get("author"), "note": change.get("note")}
    force = _flag(change["force"]) if "force" in change else None
    headers = {
        CELL_HEADER: cell.cell_id,
        "Idempotency-Key": change.get("idempotency_key", str(uuid4())),
        "If-Match": change.get("if_match"),
        "Content-Type": None if body is None else body.media_type,
    }
    content = b"" if body is None else body.content
    return Attempt(
        method, cell_path(cell, *parts), present({**sent, "force": force}), present(headers), content, slow=True
    )


def _dry(attempt: Attempt) -> Attempt:
    return attempt._replace(params={**attempt.params, "dryRun": _flag(True)})


def _cell_body(cell: AboutCell, description: CellDescription | None, fingerprints: FingerprintSource | None) -> _Body:
    if description is None:
        if fingerprints is None:
            raise ValueError("give a description of the cell, fingerprints, or both")
        return _file(fingerprints)
    if isinstance(fingerprints, Path):
        raise ValueError(f"{fingerprints.name} describes its cell itself: leave the description out")
    known = description.model_dump(mode="json", include=set(CellDescription.model_fields), exclude_none=True)
    described = known | {"cellId": cell.cell_id}
    if fingerprints is None:
        return _Body(json.dumps({"cell": described}).encode(), _JSON)
    return _Body(fingerprints.encode(json.dumps(described)), _FILE)


def _file(fingerprints: FingerprintSource) -> _Body:
    if isinstance(fingerprints, Path) and fingerprints.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{fingerprints.name}: HTTP takes .safetensors and .npz; `fingerpost cells import` and `append` also take "
            ".npy, .csv and .mat"
        )
    return _Body(fingerprints if isinstance(fingerprints, Path) else fingerprints.encode(), _FILE)


def _json(body: BaseModel) -> _Body:
    return _Body(body.model_dump_json(exclude_none=True).encode(), _JSON)


def _flag(value: bool) -> str:
    return str(value).lower()

"""What operators may ask of cells, as OpenAPI describes it."""

from typing import get_args

from reference_db.exporting import FileFormat
from service.locating.live import LiveEstimates
from service.updates.cell_wire import CellDetail, CellList, CellModel, CellRetention
from service.updates.error_map import LARGEST_SAMPLE, SAMPLE, ErrorMap
from service.updates.fingerprint_input import FILE, CellBody, FingerprintsBody
from service.updates.listing import FingerprintList
from service.updates.selection import Selection
from service.updates.versions import VersionDiff, VersionList
from service.updates.writes import Preview, Rollback
from service.web.openapi_operation import Json, content, operation, parameter, problems

CELL_ROOTS = (
    CellList,
    CellDetail,
    CellRetention,
    CellModel,
    CellBody,
    FingerprintsBody,
    FingerprintList,
    Selection,
    Preview,
    Rollback,
    VersionList,
    VersionDiff,
    ErrorMap,
    LiveEstimates,
)

_FILE_SAID = """\
A fingerprint file, safetensors or npz: `csi` complex `[n, antennas, subcarriers]`, or real pairs `[..., 2]` with
`scale`; `positions` `[n, 2]` metres, or `latitudes_deg` and `longitudes_deg`; optionally `times` (Unix seconds) and
`sigmas` (metres); and the cell's description as JSON, metadata `cell` or array `cell`."""

_ERRORS_SAID = """\
No coarse position helps. Takes seconds a hundred fingerprints the first time, while users go before; then it is
remembered with the version. Where too many wait for errors the answer is a 503 with `Retry-After`."""

_ETAG = {"description": "The version, quoted.", "schema": {"type": "string"}}
_ONE_TAG = {"type": "string", "pattern": "^[^,]*$"}
_REPLAYED = {
    "description": "`true` where an earlier request with the same Idempotency-Key made this version.",
    "schema": {"type": "string"},
}


def cell_paths(cell_id: str) -> Json:
    """``/cells`` and everything below it; `cell_id` is an example."""
    cell = parameter("path", "cellId", "The cell's name.", {"type": "string"}, cell_id)
    named = parameter("query", "version", "A version or its number; else the current one.", _text(256))
    return {
        "/cells": {"get": operation("listCells", "List the cells", answer="CellList")},
        "/cells/{cellId}": {
            "get": operation("showCell", "Show a cell", answer="CellDetail", parameters=[cell]),
            "put": _change("putCell", "Create a cell, or replace it as a whole", "CellBody", cell, file=True),
        },
        "/cells/{cellId}/fingerprints": {
            "get": operation(
                "listFingerprints",
                "List fingerprints, without their CSI",
                answer="FingerprintList",
                parameters=[
                    cell,
                    named,
                    parameter("query", "limit", "How many, at most.", _number(100_000)),
                    parameter("query", "after", "Only those after this id.", _text(256)),
                ],
            ),
            "post": _change("appendFingerprints", "Add fingerprints", "FingerprintsBody", cell, file=True),
        },
        "/cells/{cellId}/fingerprints/delete": {"post": _deletion(cell)},
        "/cells/{cellId}/retention": {
            "put": _change("setRetention", "Say how long the cell keeps its fingerprints", "CellRetention", cell)
        },
        "/cells/{cellId}/model": {
            "put": _change("setModel", "Say which networks may locate users in the cell", "CellModel", cell)
        },
        "/cells/{cellId}/rollback": {
            "post": _change("rollBack", "Publish an older version once more", "Rollback", cell)
        },
        "/cells/{cellId}/versions": {
            "get": operation(
                "listVersions",
                "List versions, newest first",
                answer="VersionList",
                parameters=[
                    cell,
                    parameter("query", "limit", "How many, at most.", _number(1000)),
                    parameter("query", "before", "Only those of lower number.", _number(10**9)),
                ],
            )
        },
        "/cells/{cellId}/versions/{version}": {
            "get": operation(
                "showVersion", "Show a version", answer="CellDetail", parameters=[cell, _version("version")]
            )
        },
        "/cells/{cellId}/versions/{version}/diff/{other}": {
            "get": operation(
                "diffVersions",
                "Show what lies between two versions",
                answer="VersionDiff",
                parameters=[cell, _version("version"), _version("other")],
            )
        },
        "/cells/{cellId}/errors": {"get": _errors(cell, named)},
        "/cells/{cellId}/live": {
            "get": operation(
                "watchCell",
                "Watch where users are located, where the settings allow it",
                answer="LiveEstimates",
                parameters=[cell, parameter("query", "after", "Only those of higher number.", _number(2**53))],
            )
        },
        "/cells/{cellId}/export": {"get": _export(cell, named)},
    }


def _change(name: str, summary: str, body: str, cell: Json, *, file: bool = False) -> Json:
    """An operation that makes a version."""
    created = name == "putCell"
    published = {
        "description": summary,
        "headers": {"ETag": _ETAG, "Idempotency-Replayed": _REPLAYED},
        "content": {"application/json": content("CellDetail")},
    }
    bodies = {"application/json": content(body), "application/msgpack": content(body)}
    if file:
        bodies[FILE] = {"schema": {"type": "string", "format": "binary", "description": _FILE_SAID}}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [
            cell,
            parameter("query", "author", "Who; kept with the version.", _text(256)),
            parameter("query", "note", "Why; kept with the version.", _text(4096)),
            parameter(
                "query",
                "force",
                "Publish even if users would be located far worse, or the artifact cannot serve the cell.",
                {"type": "boolean", "default": False},
            ),
            parameter("header", "If-Match", "Only if this is the current version, or any: `*`.", _ONE_TAG),
            parameter("header", "If-None-Match", "`*`: only if there is no such cell.", {"const": "*"}),
            parameter(
                "header",
                "Idempotency-Key",
                "Asked again with the same key and body, nothing is changed again.",
                {"type": "string", "pattern": "^[ -~]{1,256}$"},
            ),
        ],
        "requestBody": {"required": True, "content": bodies},
        "responses": ({"201": published} if created else {}) | {"200": published, **problems()},
    }


def _deletion(cell: Json) -> Json:
    deletion = _change("deleteFingerprints", "Delete the fingerprints that meet all criteria", "Selection", cell)
    said = "Only say how many these are: the answer is a Preview."
    deletion["parameters"].append(parameter("query", "dryRun", said, {"type": "boolean", "default": False}))
    answers = deletion["responses"]["200"]["content"]["application/json"]
    answers["schema"] = {"oneOf": [answers["schema"], content("Preview")["schema"]]}
    return deletion


def _errors(cell: Json, named: Json) -> Json:
    limit = _number(LARGEST_SAMPLE) | {"default": SAMPLE}
    described = operation(
        "showErrors",
        "Locate a sample of a version's own fingerprints, each left out in its turn",
        answer="ErrorMap",
        parameters=[cell, named, parameter("query", "limit", "How many, at most.", limit)],
    )
    return described | {"description": _ERRORS_SAID}


def _export(cell: Json, named: Json) -> Json:
    formats = {"type": "string", "enum": list(get_args(FileFormat)), "default": get_args(FileFormat)[0]}
    file = {
        "description": "A fingerprint file.",
        "headers": {"ETag": _ETAG},
        "content": {FILE: {"schema": {"type": "string", "format": "binary", "description": _FILE_SAID}}},
    }
    return {
        "operationId": "exportCell",
        "summary": "Get a version as a file that can be imported again",
        "parameters": [cell, named, parameter("query", "format", "Which kind of file.", formats)],
        "responses": {"200": file, **problems()},
    }


def _version(name: str) -> Json:
    return parameter("path", name, "A version, as in 3-ab12cd34ef56, or its number.", {"type": "string"}, "1")


def _text(longest: int) -> Json:
    """Without control characters: it is shown in terminals."""
    return {"type": "string", "maxLength": longest, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}


def _number(most: int) -> Json:
    return {"type": "integer", "minimum": 1, "maximum": most}

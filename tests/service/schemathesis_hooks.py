"""What schemathesis must know of the service beside its OpenAPI document; loaded by its command line."""

import base64
import json
from typing import Any

import msgspec
import schemathesis

# Why a request that its schema allows may be refused: what no schema can say.
_BEYOND_SCHEMAS = {
    "ACTIVATION_IN_PROGRESS",
    "ARTIFACT_NOT_FOUND",
    "ARTIFACT_REFUSED",
    "BAND_NOT_SERVED_BY_ARTIFACT",
    "CELL_NOT_FOUND",
    "CELL_NOT_SERVED_BY_ARTIFACT",
    "CELL_TOO_SMALL",
    "COARSE_POSITION_INCORRECT",  # neither a pair nor the other, or both
    "COARSE_POSITION_OUTSIDE_CELL",
    "CSI_ALL_ZERO",
    "CSI_HAS_NO_SIGNAL",
    "CSI_LENGTH_MISMATCH",
    "CSI_LEVEL_IMPLAUSIBLE",
    "CSI_NOT_BASE64",  # `contentEncoding` is no rule
    "CSI_NOT_FINITE",
    "CSI_OUT_OF_RANGE",
    "CSI_SHAPE_MISMATCH",
    "FINGERPRINTS_UNREADABLE",  # a file is any bytes to a schema
    "FINGERPRINT_REFUSED",
    "GAD_SHAPES_NOT_SUPPORTED",  # shapes of TS 29.572 that no answer has
    "IDEMPOTENCY_KEY_REUSED",
    "LOCATION_TOO_OLD",
    "MAX_RESP_TIME_EXCEEDED",
    "MODEL_NOT_ALLOWED_BY_CELL",
    "NO_MEASURING_ARTIFACT",
    "NO_TRAJECTORY_ARTIFACT",
    "PRECONDITION_FAILED",
    "STATIONS_TOO_FAR",
    "TIMESTAMP_IMPLAUSIBLE",  # in the future, or before 2000
    "TOO_MANY_STATIONS",
    "TRACK_TOO_SHORT",
    "TRACK_TOO_WIDE",
    "TRAJECTORY_LENGTH",
    "UPDATE_REFUSED",
    "VERSION_NOT_FOUND",
    "VERSION_REFUSED",
}
# And fields that are wrong only beside others, or beside the cell, as its JSON pointer says.
_BESIDE_OTHERS = ("", "/cell", "/area", "/fingerprints", "/measurements", "query after")

# To a schema 1.0 is an integer, and a minute may have 61 seconds.
_STRICTER = ("Input should be a valid integer", "Input should be an RFC 3339 date and time")


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Adds msgpack, which the document leaves out: generators of clients do not know this media type."""
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            contents = [operation.get("requestBody", {}).get("content", {})]
            if operation.get("tags") == ["locate"]:
                contents.append(operation["responses"]["200"]["content"])
            for content in contents:
                if "application/json" in content:
                    content["application/msgpack"] = {"schema": content["application/json"]["schema"]}


@schemathesis.serializer("application/msgpack")
def _packed(context: Any, value: Any) -> bytes:
    return msgspec.msgpack.encode(_with_bytes(value))


def _with_bytes(value: Any) -> Any:
    """What is base64 in JSON is bytes in msgpack; of what is no base64 any will do."""
    if isinstance(value, list):
        return [_with_bytes(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(value, -(2**63)), 2**64 - 1)  # msgpack has no larger ones
    if not isinstance(value, dict):
        return value
    changed = {name: _with_bytes(one) for name, one in value.items()}
    if isinstance(value.get("data"), str):
        try:
            changed["data"] = base64.b64decode(value["data"], validate=True)
        except ValueError:
            changed["data"] = value["data"].encode("utf-8", "surrogatepass")
    return changed


@schemathesis.deserializer("application/msgpack")
def _unpacked(context: Any, response: Any) -> Any:
    return json.loads(msgspec.json.encode(msgspec.msgpack.decode(response.content)))


@schemathesis.check
def refuses_only_what_no_schema_says(context: Any, response: Any, case: Any) -> None:
    """In place of `positive_data_acceptance`, to which every 400 is a failure."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < 400:
        return
    problem = response.json()
    if problem["cause"] in _BEYOND_SCHEMAS:
        return
    params = problem.get("invalidParams", [])
    assert params, f"{response.status_code} {problem['cause']} {problem['detail']}"
    for one in params:
        beside = one["param"] in _BESIDE_OTHERS or one["param"].startswith(_BESIDE_OTHERS[1:])
        assert beside or one["reason"].startswith(_STRICTER), f"{problem['cause']} {problem['detail']}"


@schemathesis.check
def is_a_problem(context: Any, response: Any, case: Any) -> None:
    """Every 4xx and 5xx is problem+json that says the same status."""
    if response.status_code >= 400 and case.method != "HEAD":
        assert response.headers["content-type"] == ["application/problem+json"]
        assert response.json()["status"] == response.status_code

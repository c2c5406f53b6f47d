"""A manifest: one immutable version of a cell."""

import json
import math
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from reference_db.cell import Cell, describe_errors
from reference_db.errors import CorruptManifest
from reference_db.retention import Retention

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FingerprintId = Annotated[int, Field(ge=0, lt=2**64)]
Action = Literal[
    "created",
    "replaced",
    "appended",
    "deleted",
    "forgotten",
    "corrected",
    "rolled back",
    "retention set",
    "thinned",
    "model set",
]
FORGOTTEN = "forgotten"  # entry of the quality: what a version of that action removed
ModelPolicy = Literal["auto", "mateformer", "scadf-moe", "lwlm"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SegmentReference(_Frozen):
    """A segment by its digest, and how many fingerprints it holds."""

    digest: Digest
    count: int = Field(ge=1)


class RequestKey(_Frozen):
    """Identifies an operator's request, so that a retry is recognised: digests of its idempotency key and body."""

    key: Digest
    body: Digest


class Change(_Frozen):
    """The operator's change that made a version. `added` and `removed` count fingerprints.

    A replacement or a rollback counts all earlier fingerprints as removed and all present ones as added.
    """

    action: Action
    added: int = Field(ge=0)
    removed: int = Field(ge=0)
    author: str = Field(max_length=256)
    note: str = Field(max_length=4096)
    request: RequestKey | None = None


class Manifest(_Frozen):
    """The description of a cell and an ordered list of its segments.

    `number` counts the versions of a cell from 1. `parent` is the digest of the previous version's manifest.
    Fingerprints whose ids are among the `tombstones` are deleted; readers skip them in every segment. Readers build
    the indices from the first `indexed` segments and extend them by the others. Every reader of a version does the
    same, so all readers give the same results. `model` says which model family may locate users in the cell; `auto`
    allows every family. `quality` holds measurements of this version as JSON values.
    """

    schema_version: Literal[2] = 2
    cell: Cell
    number: int = Field(ge=1)
    parent: Digest | None
    segments: tuple[SegmentReference, ...]
    indexed: int = Field(ge=0)
    tombstones: tuple[FingerprintId, ...] = ()
    retention: Retention = Retention()
    model: ModelPolicy = "auto"
    quality: dict[str, JsonValue]
    created_at: AwareDatetime
    change: Change

    @field_validator("quality")
    @classmethod
    def _is_finite(cls, quality: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if not _finite(quality):
            raise ValueError("must not contain NaN or infinity, which are not JSON")
        return quality

    @classmethod
    def from_bytes(cls, data: bytes, digest: str) -> Self:
        """Reads a manifest. Raises `CorruptManifest` unless `data` hashes to `digest` and is valid."""
        if sha256(data).hexdigest() != digest:
            raise CorruptManifest(f"manifest {digest} hashes to {sha256(data).hexdigest()}")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise CorruptManifest(f"manifest {digest}: {describe_errors(error)}") from error

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8. Equal manifests give equal bytes."""
        fields = self.model_dump(mode="json")
        if self.model == "auto":
            del fields["model"]  # manifests written before there was a policy keep their digests
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    def with_quality(self, quality: Mapping[str, JsonValue]) -> Self:
        """The same version with more measurements of its quality."""
        return self.with_fields(quality=self.quality | dict(quality))

    def with_fields(self, **changes: object) -> Self:
        """A manifest that differs in these fields. It is validated and has a digest of its own."""
        return self.model_validate({name: getattr(self, name) for name in type(self).model_fields} | changes)

    @cached_property
    def digest(self) -> str:
        return sha256(self.to_bytes()).hexdigest()

    @property
    def version(self) -> str:
        """The name of this version: "<number>-<first 12 digits of the digest>"."""
        return f"{self.number}-{self.digest[:12]}"

    @property
    def fingerprints(self) -> int:
        """How many fingerprints the version holds."""
        return sum(segment.count for segment in self.segments) - len(self.tombstones)


def _finite(value: JsonValue) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case dict():
            return all(map(_finite, value.values()))
        case list():
            return all(map(_finite, value))
        case _:
            return True

"""A manifest: one immutable version of a cell."""

import json
import math
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from reference_db.cell import Cell
from reference_db.errors import CorruptManifest
from reference_db.retention import Retention

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FingerprintId = Annotated[int, Field(ge=0, lt=2**64)]
Action = Literal["created", "replaced", "appended", "deleted", "rolled back", "retention set", "thinned", "model set"]
ModelPolicy = Literal["auto", "mateformer", "scadf-moe"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SegmentReference(_Frozen):
    """A segment by its digest, and how many fingerprints it holds."""

    digest: Digest
    count: int = Field(ge=1)


class RequestKey(_Frozen):
    """By what an operator's request is known again: digests of its idempotency key and of all it asked for."""

    key: Digest
    body: Digest


class Change(_Frozen):
    """What an operator did to make a version: `added` and `removed` count fingerprints.

    One that replaces all, be it by those of an older version, removes all there were and adds all there are.
    """

    action: Action
    added: int = Field(ge=0)
    removed: int = Field(ge=0)
    author: str = Field(max_length=256)
    note: str = Field(max_length=4096)
    request: RequestKey | None = None


class Manifest(_Frozen):
    """The cell's description and what its fingerprints are, in order, without the fingerprints themselves.

    `number` counts a cell's versions from 1; `parent` is the digest of the manifest that this one followed.
    A fingerprint whose id is among the `tombstones` is dropped wherever a segment holds it. The indices are made of
    the first `indexed` segments and extended by the others, so that whoever loads a version, by whatever way, answers
    alike. `model` says which networks may locate users in the cell; to `auto` each that can is welcome. `quality` is
    whatever was measured of this version, as JSON values.
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
            raise ValueError("NaN and infinity are not JSON")
        return quality

    @classmethod
    def from_bytes(cls, data: bytes, digest: str) -> Self:
        """Reads a manifest; raises `CorruptManifest` unless `data` hashes to `digest` and is valid."""
        if sha256(data).hexdigest() != digest:
            raise CorruptManifest(f"manifest {digest} hashes to {sha256(data).hexdigest()}")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise CorruptManifest(f"manifest {digest}: {error}") from error

    def to_bytes(self) -> bytes:
        """Canonical JSON: keys sorted, no spaces, UTF-8; equal manifests give equal bytes."""
        fields = self.model_dump(mode="json")
        if self.model == "auto":
            del fields["model"]  # as before there were policies: versions of that time keep their digest
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    def with_quality(self, quality: Mapping[str, JsonValue]) -> Self:
        """The same version with more known of its quality."""
        return self.with_fields(quality=self.quality | dict(quality))

    def with_fields(self, **changes: object) -> Self:
        """Another manifest, which differs in these fields; validated anew, and named by its own digest."""
        return self.model_validate({name: getattr(self, name) for name in type(self).model_fields} | changes)

    @cached_property
    def digest(self) -> str:
        return sha256(self.to_bytes()).hexdigest()

    @property
    def version(self) -> str:
        """What people and answers call this version: "<number>-<first 12 digits of the digest>"."""
        return f"{self.number}-{self.digest[:12]}"

    @property
    def fingerprints(self) -> int:
        """How many it holds."""
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

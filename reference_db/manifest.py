"""A manifest: one immutable version of a cell."""

import json
import math
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from reference_db.cell import Cell
from reference_db.errors import CorruptManifest

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FingerprintId = Annotated[int, Field(ge=0, lt=2**64)]


class SegmentReference(BaseModel):
    """A segment by its digest, and how many fingerprints it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: Digest
    count: int = Field(ge=1)


class Manifest(BaseModel):
    """The cell's description and what its fingerprints are, in order, without the fingerprints themselves.

    `number` counts a cell's versions from 1; `parent` is the digest of the manifest that this one followed.
    A fingerprint whose id is among the `tombstones` is dropped wherever a segment holds it. `quality` is
    whatever was measured of this version, as JSON values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    cell: Cell
    number: int = Field(ge=1)
    parent: Digest | None
    segments: tuple[SegmentReference, ...]
    tombstones: tuple[FingerprintId, ...] = ()
    quality: dict[str, JsonValue]
    created_at: AwareDatetime
    note: str

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
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    @cached_property
    def digest(self) -> str:
        return sha256(self.to_bytes()).hexdigest()

    @property
    def version(self) -> str:
        """What people and answers call this version: "<number>-<first 12 digits of the digest>"."""
        return f"{self.number}-{self.digest[:12]}"


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

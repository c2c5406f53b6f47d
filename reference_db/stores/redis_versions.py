"""Reads the versions of a cell from Redis."""

from typing import cast

from reference_db.errors import CorruptManifest, UnknownVersion
from reference_db.manifest import Manifest
from reference_db.stores.redis_client import RedisClient
from reference_db.stores.redis_layout import Pointer, checked_type, is_cell_id, is_number, key, parse_pointer


def read_raw_pointer(redis: RedisClient, cell_id: str) -> bytes | None:
    """The pointer as it is stored, for a script that changes the cell only if the pointer is still the same."""
    if not is_cell_id(cell_id):
        return None
    with redis.connected() as client, checked_type(cell_id):
        return cast(bytes | None, client.get(key(cell_id, "current")))


def read_pointer(redis: RedisClient, cell_id: str) -> Pointer | None:
    """Raises `CorruptManifest`."""
    kept = read_raw_pointer(redis, cell_id)
    return None if kept is None else parse_pointer(cell_id, kept)


def read_manifest(redis: RedisClient, cell_id: str, number: int) -> Manifest:
    """Raises `UnknownVersion` and `CorruptManifest`."""
    if not is_cell_id(cell_id):
        raise UnknownVersion(cell_id, number)
    with redis.connected() as client, checked_type(cell_id):
        kept = cast(bytes | None, client.hget(key(cell_id, "manifests"), str(number)))
    if kept is None:
        raise UnknownVersion(cell_id, number)
    digest, _, data = kept.partition(b"\n")
    manifest = Manifest.from_bytes(data, digest.decode(errors="replace"))
    if (manifest.cell.cell_id, manifest.number) != (cell_id, number):
        raise CorruptManifest(f"cell {cell_id!r}: version {number} has the manifest of another version")
    return manifest


def read_numbers(redis: RedisClient, cell_id: str) -> list[int]:
    """The numbers of all versions, ascending."""
    if not is_cell_id(cell_id):
        return []
    with redis.connected() as client, checked_type(cell_id):
        fields = cast(list[bytes], client.hkeys(key(cell_id, "manifests")))
    return sorted(int(field) for field in fields if is_number(field))

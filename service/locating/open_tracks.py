"""Opens tracks where the settings keep them: in this process, or in Redis for all replicas."""

from collections.abc import Callable

from service.locating.tracks import K, Kind, MemoryTracks, Tracks
from service.settings import Settings


def open_tracks(kind: Kind, read: Callable[[bytes], K], length: int, settings: Settings) -> Tracks[K]:
    """Tracks with the last `length` snapshots. `read` is the inverse of a snapshot's `to_bytes`."""
    bounds = (length, settings.track_ttl_s, settings.track_limit)
    if settings.redis_url is None:
        return MemoryTracks(*bounds)
    from service.locating.redis_tracks import RedisTracks  # a sixth of a second that others need not spend

    return RedisTracks(kind, read, settings.redis_url, *bounds, settings.waiting_limit)

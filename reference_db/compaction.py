"""When a version of a cell tidies up what many updates have left behind."""

_MOST_SEGMENTS = 32
_FEWEST_DEAD, _DEAD_SHARE = 1024, 1 / 8


def indices_due(indexed: int, appended: int) -> bool:
    """Whether indices made of so many fingerprints and extended by so many should be made anew of all of them."""
    return appended > max(256, indexed // 8)


def segments_due(segments: int) -> bool:
    """Whether so many segments should be joined: each costs a file or a key, and a step of every gathering of CSI."""
    return segments > _MOST_SEGMENTS


def tombstones_due(held: int, dead: int) -> bool:
    """Whether of so many fingerprints held the dead should be left out of the segments, not only marked."""
    return dead > max(_FEWEST_DEAD, _DEAD_SHARE * held)

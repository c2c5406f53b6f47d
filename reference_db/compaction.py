"""When a version of a cell tidies up what many updates have left behind."""

_FEW_INDEXED, _MOST_APPENDED = 512, 100_000
_MOST_SEGMENTS = 32
_FEWEST_DEAD, _DEAD_SHARE = 1024, 1 / 8


def indices_due(indexed: int, appended: int) -> bool:
    """Whether indices made of so many fingerprints and extended by so many should be made anew of all of them.

    Of 16 antennas by 16 subcarriers, seconds of one core:

    | indexed | made anew | extended by 1,000 | the same, the most appended before |
    | ---: | ---: | ---: | ---: |
    | 500 | 0.06 | - | - |
    | 10,000 | 0.7 | 0.017 | 0.020 |
    | 100,000 | 2.8 | 0.017 | 0.030, once in four 0.060 |

    Few are made anew at once, since fewer yet say little of what is to come. Of many a quarter as many may follow: each
    is then indexed five times in all as a cell grows, and a first guess is no worse. Among twice as many anywhere its
    error near a coarse position grows by a tenth, since `reach` is then twice what it should be; and look-ups take up
    to twice as long from the first that is appended, hardly longer for the rest. More than `_MOST_APPENDED` are dear
    to copy.
    """
    return appended > (0 if indexed < _FEW_INDEXED else min(indexed // 4, _MOST_APPENDED))


def segments_due(segments: int) -> bool:
    """Whether so many segments should be joined: each costs a file or a key, and a step of every gathering of CSI."""
    return segments > _MOST_SEGMENTS


def tombstones_due(held: int, dead: int) -> bool:
    """Whether of so many fingerprints held the dead should be left out of the segments, not only marked."""
    return dead > max(_FEWEST_DEAD, _DEAD_SHARE * held)

"""When a version of a cell tidies up what many updates have left behind."""

_FEW_INDEXED, _MOST_APPENDED = 512, 100_000
_MOST_SEGMENTS = 32
_FEWEST_DEAD, _DEAD_SHARE = 1024, 1 / 8


def indices_due(indexed: int, appended: int) -> bool:
    """Whether indices made of so many fingerprints and extended by so many should be made anew of all of them.

    Of 16 antennas by 16 subcarriers, seconds of one core:

    | indexed | made anew | extended by 1,000, the most appended | and one time in five |
    | ---: | ---: | ---: | ---: |
    | 500 | 0.06 | - | - |
    | 10,000 | 0.7 | 0.020 | - |
    | 100,000 | 2.8 | 0.018 | 0.030 |
    | 1,000,000 | 41 | 0.023 | 0.13 |

    Few are made anew at once, since they say little of what is to come and it takes no time. Of many a quarter as many
    may follow: as a cell grows each is indexed five times in all, and a first guess is no worse for it. Among twice as
    many anywhere it is a tenth worse near a coarse position, `reach` being too long by then. Look-ups hardly mind how
    many follow: the first takes them from 0.04 to 0.09 ms by position, a first guess from 0.17 to 0.23. Of more than
    `_MOST_APPENDED` the boxes and lists are dear to make and to copy.
    """
    return appended > (0 if indexed < _FEW_INDEXED else min(indexed // 4, _MOST_APPENDED))


def segments_due(segments: int) -> bool:
    """Whether so many segments should be joined: each costs a file or a key, and a step of every gathering of CSI."""
    return segments > _MOST_SEGMENTS


def tombstones_due(held: int, dead: int) -> bool:
    """Whether of so many fingerprints held the dead should be left out of the segments, not only marked."""
    return dead > max(_FEWEST_DEAD, _DEAD_SHARE * held)

"""How users in frames become runs of the `query` graph."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# More frames at once are slower: the gathered keys and values no longer fit into the processor's cache.
_FRAMES_A_RUN = 16

_Rows = NDArray[np.int64]


def group_by_slot(users_in_slots: Sequence[tuple[int, int]], few_shapes: bool) -> list[tuple[_Rows, _Rows]]:
    """Groups users `(row, slot)` into runs of the `query` graph: rows `[frames, users]` and slots `[frames]`.

    A run is a rectangle. It holds frames with about equally many users; the last user of a frame is repeated to fill
    its row, never more than half of the row. With `few_shapes` both sides are powers of two, and the last frame is
    repeated too.
    """
    by_slot: dict[int, list[int]] = defaultdict(list)
    for row, slot in users_in_slots:
        by_slot[slot].append(row)
    by_size: dict[int, list[int]] = defaultdict(list)
    for slot, rows in by_slot.items():
        by_size[(len(rows) - 1).bit_length()].append(slot)
    runs = []
    for size, slots_of_size in by_size.items():
        for first in range(0, len(slots_of_size), _FRAMES_A_RUN):
            slots = slots_of_size[first : first + _FRAMES_A_RUN]
            width = max(len(by_slot[slot]) for slot in slots)
            if few_shapes:
                width, height = 1 << size, 1 << (len(slots) - 1).bit_length()
                slots = slots + slots[-1:] * (height - len(slots))
            filled = [by_slot[slot] + by_slot[slot][-1:] * (width - len(by_slot[slot])) for slot in slots]
            runs.append((np.array(filled, np.int64), np.array(slots, np.int64)))
    return runs

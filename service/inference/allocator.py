"""What the C library does with memory that is freed."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = 2**20  # bytes: a cell's arrays, uploads, exports; not what a single user's request takes
_SPARE = 8 * 2**20  # bytes that a heap may keep at its end for the next request


def give_back_large_arrays() -> None:
    """Large arrays come from the system and go back to it.

    By itself glibc takes the largest array ever freed, up to 32 MiB, as a hint to keep all such in its heaps, one for
    nearly every thread. Cells that change all the time leave holes in them, and a service grows by hundreds of MiB.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries have none, nor what it is against
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _LARGE)
        set_option(_TRIM_THRESHOLD, _SPARE)

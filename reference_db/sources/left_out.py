"""What of a Wi-Fi capture is not used, and notes that say so."""

import numpy as np
from numpy.typing import NDArray


def find_signals(csi: NDArray[np.complex64]) -> NDArray[np.bool_]:
    """Whether the CSI of each packet, of `[n, antennas, subcarriers]`, is finite and not all zero: bool `[n]`."""
    return np.asarray(np.isfinite(csi).all(axis=(1, 2)) & csi.any(axis=(1, 2)))


def describe_left_out(
    kind: str, count: int, *, unplaced: int, incomplete: int = 0, silent: int, hint: str | None = None
) -> tuple[str, ...]:
    """A note on how many of `count` packets or frames are used, and why not the others; none where all are used."""
    reasons = [
        f"{number} {one if number == 1 else several}"
        for number, one, several in (
            (unplaced, "has no position", "have no position"),
            (incomplete, "lacks a core", "lack a core"),
            (silent, "has no signal", "have no signal"),
        )
        if number
    ]
    if not reasons:
        return ()
    used = count - unplaced - incomplete - silent
    note = f"{used} of {count} {kind} {'is' if used == 1 else 'are'} used; {', '.join(reasons)}"
    return (note if hint is None else f"{note}; {hint}",)


def describe_cut(whole: int) -> str:
    return f"the file is cut off after {whole} whole packet{'' if whole == 1 else 's'}"

"""What turns the CSI of each cell into features: made once for a version, from a sample of its fingerprints."""

import threading
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from models.artifact.channel_transform import ChannelTransform
from reference_db.cell_version import CellVersion

_SAMPLED = 256  # fingerprints: plenty for a cell's power and delay origin
_MOST_VALUES = 1 << 23  # complex numbers of the sample: fewer fingerprints of huge arrays


class Channels:
    """The transform of each version, remembered for as long as the version lives. Threads may share it."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[CellVersion, ChannelTransform] = WeakKeyDictionary()
        self._making = threading.Lock()

    def of(self, version: CellVersion) -> ChannelTransform:
        """The transform of a version. Takes a fraction of a second for a version seen for the first time."""
        made = self._made.get(version)
        if made is None:
            with self._making:
                made = self._made.get(version) or _make_transform(version)
                self._made[version] = made
        return made


def _make_transform(version: CellVersion) -> ChannelTransform:
    cell = version.cell
    return ChannelTransform.of(
        cell.array,
        cell.subcarriers,
        cell.bandwidth,
        cell.carrier_frequency,
        version.survey_sto,
        cell.user_sto,
        version.csi[_draw_sample(version)],
    )


def _draw_sample(version: CellVersion) -> NDArray[np.int64]:
    """Rows of the indexed fingerprints with the smallest ids, which are random.

    Appends leave the sample as it is and few deletions touch it, so most new versions keep the transform, and with it
    their frames.
    """
    cell = version.cell
    most = min(_SAMPLED, max(1, _MOST_VALUES // (cell.antennas * cell.subcarriers)))
    return np.sort(np.argsort(version.ids[: len(version.base)], kind="stable")[:most])

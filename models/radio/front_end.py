"""The radio that observes the paths: its antenna array and its band."""

from models.frozen import FrozenModel
from reference_db.cell import AntennaArray


class Radio(FrozenModel):
    """How path tables become CSI. ``bandwidth`` in hertz."""

    array: AntennaArray
    subcarriers: int
    bandwidth: float

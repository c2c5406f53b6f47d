"""The radio that observes the paths: its antenna array and its band."""

from typing import Literal

from models.frozen import FrozenModel
from reference_db.cell import AntennaArray


class Radio(FrozenModel):
    """How path tables become CSI. ``bandwidth`` in hertz.

    ``wavefronts``: every element sees a path under the direction and delay of its own (spherical), or under those of
    the array's centre (plane). ``pattern``: the gain of each element by direction, that of 3GPP TR 38.901 or none.
    """

    array: AntennaArray
    subcarriers: int
    bandwidth: float
    wavefronts: Literal["plane", "spherical"] = "plane"
    pattern: Literal["isotropic", "tr38901"] = "isotropic"

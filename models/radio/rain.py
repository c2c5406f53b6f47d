"""Rain along the paths of a path table: the specific attenuation of Recommendation ITU-R P.838-3."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from models.radio.path_table import PathTable
from reference_db.path_features import SPEED_OF_LIGHT

LOWEST_HZ, HIGHEST_HZ = 1e9, 1e12


class _Curve(NamedTuple):
    """A coefficient over the decimal logarithm of the frequency in GHz: a sum of bells (a, b, c) and a line."""

    bells: tuple[tuple[float, float, float], ...]
    slope: float
    constant: float

    def at(self, frequency: float) -> float:
        x = np.log10(frequency / 1e9)
        bells = sum(a * np.exp(-(((x - b) / c) ** 2)) for a, b, c in self.bells)
        return float(bells + self.slope * x + self.constant)


# Tables 1 to 4 of the Recommendation: log10 k, and alpha, each for horizontal and vertical polarisation.
_LOG_K_HORIZONTAL = _Curve(
    (
        (-5.33980, -0.10008, 1.13098),
        (-0.35351, 1.26970, 0.45400),
        (-0.23789, 0.86036, 0.15354),
        (-0.94158, 0.64552, 0.16817),
    ),
    -0.18961,
    0.71147,
)
_LOG_K_VERTICAL = _Curve(
    (
        (-3.80595, 0.56934, 0.81061),
        (-3.44965, -0.22911, 0.51059),
        (-0.39902, 0.73042, 0.11899),
        (0.50167, 1.07319, 0.27195),
    ),
    -0.16398,
    0.63297,
)
_ALPHA_HORIZONTAL = _Curve(
    (
        (-0.14318, 1.82442, -0.55187),
        (0.29591, 0.77564, 0.19822),
        (0.32177, 0.63773, 0.13164),
        (-5.37610, -0.96230, 1.47828),
        (16.1721, -3.29980, 3.43990),
    ),
    0.67849,
    -1.95537,
)
_ALPHA_VERTICAL = _Curve(
    (
        (-0.07771, 2.33840, -0.76284),
        (0.56727, 0.95545, 0.54039),
        (-0.20238, 1.14520, 0.26809),
        (-48.2991, 0.791669, 0.116226),
        (48.5833, 0.791459, 0.116479),
    ),
    -0.053739,
    0.83433,
)


def rain_attenuation(frequency: float, rate: float, *, vertical: bool) -> float:
    """The specific attenuation of level paths in dB per kilometre: k R^alpha.

    ``frequency`` in hertz, 1 to 1,000 GHz; ``rate`` R in millimetres of rain an hour. Raises `ValueError` for other
    frequencies.
    """
    if not LOWEST_HZ <= frequency <= HIGHEST_HZ:
        raise ValueError(f"{frequency / 1e9:g} GHz is not between 1 and 1000 GHz")
    log_k, alpha = (_LOG_K_VERTICAL, _ALPHA_VERTICAL) if vertical else (_LOG_K_HORIZONTAL, _ALPHA_HORIZONTAL)
    return float(10 ** log_k.at(frequency) * rate ** alpha.at(frequency))


def let_it_rain(table: PathTable, rate: float) -> PathTable:
    """The same paths in rain of ``rate`` millimetres an hour: each loses power by its length, and nothing else.

    Rain falls on all of every path. The gains of the vertical and of the horizontal antenna of the base station are
    attenuated as waves of their polarisation.
    """
    kilometres = SPEED_OF_LIGHT * table.delay.astype(np.float64) / 1e3

    def fade(vertical: bool) -> np.ndarray:
        loss_db = rain_attenuation(table.site.carrier_frequency, rate, vertical=vertical) * kilometres
        return (10 ** (-loss_db / 20)).astype(np.float32)

    horizontal = table.horizontal_gain
    return replace(
        table,
        gain=table.gain * fade(vertical=True),
        horizontal_gain=None if horizontal is None else horizontal * fade(vertical=False),
    )

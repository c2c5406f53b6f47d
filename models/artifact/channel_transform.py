"""What turns one cell's CSI into the fixed-size features of Mateformer: the inputs of its graph ``describe``.

The spectra over direction and delay have the same bins for every array and grid of subcarriers: directions by
direction cosine, delays by the resolution 1/B of the bandwidth B. The matrices that compute them depend on the cell
only, and are made once.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import AntennaArray, Cell
from reference_db.path_features import SPEED_OF_LIGHT

DIRECTIONS = 48  # bins of the direction cosine along the columns
ELEVATIONS = 12  # bins of the direction cosine along the rows
BINS_PER_RESOLUTION = 1.5  # delay bins are 1 / (1.5 B) apart
ABSOLUTE_DELAYS = (-12, 28)  # bins around the cell's delay origin: first, and one past the last
RELATIVE_DELAYS = (-8, 24)  # bins around the delay of a snapshot's strongest path
ELEVATION_DELAYS = (-4, 12)  # the part of them in which elevations are resolved
SEARCHED_DELAYS = 128  # over the whole period of the delay, to find the strongest path
DESCRIPTION = 11  # numbers that describe the radio
FEWEST_SPARSE_DELAYS = 32  # of them, to find the strongest direction; at least one for each subcarrier
SCALE_STEP_DB, ORIGIN_STEP = 0.5, 0.5  # of the cell's RMS, and of its delay origin in delay bins
STRONGEST_SHARPNESS = 6  # the delay of the strongest path is the mean delay under this power of its power spectrum

_Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ChannelTransform:
    """The transform of one cell.

    Complex matrices are stored as real ones: they take (real, imaginary) pairs interleaved, and give all real parts
    before all imaginary parts.
    """

    array: AntennaArray
    over_columns: _Floats  # [2 directions, 2 columns]
    over_lines: _Floats  # [2 · 2 elevations, 2 lines]
    sparse_search: _Floats  # [2 subcarriers, 2 sparse delays]
    search: _Floats  # [2 subcarriers, 2 searched delays]
    absolute: _Floats  # [2 subcarriers, 2 absolute delays]
    relative: _Floats  # [2 subcarriers, 2 relative delays]
    scale: _Floats  # [1] RMS of the cell's CSI
    delay: _Floats  # [2] delay origin in cycles per subcarrier, metres per cycle
    description: _Floats  # [11]

    @classmethod
    def of(
        cls,
        array: AntennaArray,
        subcarriers: int,
        bandwidth: float,
        carrier_frequency: float,
        survey_sto: float | None,
        user_sto: float | None,
        csi: NDArray[np.complex64],
    ) -> Self:
        """The transform of a cell from its radio and a sample of its fingerprints' CSI, [m, antennas, subcarriers].

        ``bandwidth`` and ``carrier_frequency`` in hertz. ``survey_sto`` and ``user_sto`` are the 1-sigma sampling-time
        offsets of fingerprints and users in seconds, None if unknown.

        RMS and delay origin are rounded, so that a sample with a few other fingerprints usually gives the same
        transform: what was encoded with it stays valid.
        """
        scale = _rounded_level(float(np.sqrt(np.square(np.abs(csi), dtype=np.float64).mean())) or 1.0)
        search = _delay_bins(subcarriers, np.arange(SEARCHED_DELAYS) / SEARCHED_DELAYS)
        over_columns = _direction_bins(array.columns, array.spacing, DIRECTIONS)
        per_bin = bandwidth / subcarriers / (BINS_PER_RESOLUTION * bandwidth)  # cycles per subcarrier
        origin = _middle(strongest_delays(csi / np.complex64(scale), array, over_columns, search))
        origin = ORIGIN_STEP * per_bin * round(origin / (ORIGIN_STEP * per_bin))
        return cls(
            array=array,
            over_columns=_as_real(over_columns.T).T.copy(),
            over_lines=_as_real(_line_bins(array).T).T.copy(),
            sparse_search=_as_real(thin_out(search)),
            search=_as_real(search),
            absolute=_as_real(_delay_bins(subcarriers, origin + per_bin * np.arange(*ABSOLUTE_DELAYS))),
            relative=_as_real(_delay_bins(subcarriers, per_bin * np.arange(*RELATIVE_DELAYS))),
            scale=np.array([scale], np.float32),
            delay=np.array([origin, SPEED_OF_LIGHT * subcarriers / bandwidth], np.float32),
            description=np.array(
                [
                    math.log2(array.columns) / 3 - 1,
                    math.log2(array.rows) / 2 - 1,
                    2 * array.polarisations - 3,
                    4 * array.spacing - 2,
                    math.log2(subcarriers / 32),
                    math.log2(bandwidth / 40e6),
                    math.log10(carrier_frequency / 3.5e9),
                    *_describe_sto(survey_sto),
                    *_describe_sto(user_sto),
                ],
                np.float32,
            ),
        )

    @classmethod
    def of_cell(cls, cell: Cell, csi: NDArray[np.complex64]) -> Self:
        """The transform of a described cell from a sample of its fingerprints' CSI, as `of`."""
        radio = cell.array, cell.subcarriers, cell.bandwidth, cell.carrier_frequency
        return cls.of(*radio, cell.survey_sto, cell.user_sto, csi)

    def feeds(self, csi: _Floats) -> dict[str, _Floats]:
        """The inputs of ``describe`` for snapshots float32 [t, antennas, subcarriers, 2]."""
        lines = csi.reshape(len(csi), self.array.lines, self.array.columns, *csi.shape[2:])
        return {"csi": lines} | self.constants

    def with_sto(self, survey_sto: float | None, user_sto: float | None) -> Self:
        """The same cell with other sampling-time offsets of fingerprints and users, as in `of`."""
        stos = np.array([*_describe_sto(survey_sto), *_describe_sto(user_sto)], np.float32)
        return replace(self, description=np.concatenate([self.description[: -len(stos)], stos]))

    @property
    def constants(self) -> dict[str, _Floats]:
        """All inputs of ``describe`` but the CSI."""
        names = (
            "over_columns",
            "over_lines",
            "sparse_search",
            "search",
            "absolute",
            "relative",
            "scale",
            "delay",
            "description",
        )
        return {name: getattr(self, name) for name in names}

    @cached_property
    def key(self) -> bytes:
        """Equal for transforms that give equal features."""
        parts = b"".join(array.tobytes() for array in self.constants.values())
        return hashlib.blake2b(parts, digest_size=16).digest()

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.constants.values())


def strongest_delays(
    csi: NDArray[np.complex64],  # [m, antennas, subcarriers]
    array: AntennaArray,
    over_columns: NDArray[np.complex128],  # [directions, columns]
    search: NDArray[np.complex128],  # [subcarriers, searched delays]
) -> NDArray[np.float64]:
    """The delay of each snapshot's strongest path in cycles per subcarrier, [m], between -1/2 and 1/2.

    The strongest path is looked for in the direction with the highest power. The graph ``describe`` does the same.
    """
    lines = csi.reshape(len(csi), array.lines, array.columns, -1)
    over_columns, search = over_columns.astype(np.complex64), search.astype(np.complex64)
    coarse = over_columns @ (lines @ thin_out(search))  # [m, lines, directions, delays]
    direction = np.square(np.abs(coarse)).sum((1, 3)).argmax(1)
    beam = (over_columns[direction][:, None, None] @ lines)[:, :, 0]  # [m, lines, subcarriers]
    power = np.square(np.abs(beam @ search)).sum(1)  # [m, searched delays]
    weights = (power / np.maximum(power.max(1, keepdims=True), 1e-30)) ** STRONGEST_SHARPNESS
    turns = np.exp(2j * np.pi * np.arange(SEARCHED_DELAYS) / SEARCHED_DELAYS)
    delays: NDArray[np.float64] = np.angle(weights @ turns) / (2 * np.pi)
    return delays


def _rounded_level(amplitude: float) -> float:
    """The nearest amplitude on a grid of `SCALE_STEP_DB`."""
    return float(10 ** (SCALE_STEP_DB / 20 * round(20 * math.log10(amplitude) / SCALE_STEP_DB)))


def thin_out(search: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
    """The columns of ``search`` [subcarriers, searched delays] over which the power of a direction is summed.

    With fewer delays than subcarriers, that sum would depend on the sampling-time offset.
    """
    wanted = max(len(search), FEWEST_SPARSE_DELAYS)
    return search[:, :: max(1, SEARCHED_DELAYS >> math.ceil(math.log2(wanted)))]


def _middle(delays: NDArray[np.float64]) -> float:
    """The median of delays in cycles, around their circular mean."""
    mean = float(np.angle(np.exp(2j * np.pi * delays).mean())) / (2 * np.pi)
    return mean + float(np.median((delays - mean + 0.5) % 1 - 0.5))


def _direction_bins(elements: int, spacing: float, bins: int) -> NDArray[np.complex128]:
    """Beams towards direction cosines from -1 to 1 under a Hamming window, [bins, elements]."""
    cosines = -1 + 2 * np.arange(bins) / bins
    place = spacing * (np.arange(elements) - (elements - 1) / 2)
    window = np.hamming(elements) if elements > 1 else np.ones(1)
    beams: NDArray[np.complex128] = np.exp(-2j * np.pi * cosines[:, None] * place) * window / window.sum()
    return beams


def _line_bins(array: AntennaArray) -> NDArray[np.complex128]:
    """Beams over the rows of each polarisation, [2 elevations, lines]: those of the first, then of the second."""
    rows = _direction_bins(array.rows, array.spacing, ELEVATIONS) / math.sqrt(array.polarisations)
    bins = np.zeros((2 * ELEVATIONS, array.lines), complex)
    for polarisation in range(array.polarisations):
        some = slice(polarisation * array.rows, (polarisation + 1) * array.rows)
        bins[polarisation * ELEVATIONS : (polarisation + 1) * ELEVATIONS, some] = rows
    return bins


def _delay_bins(subcarriers: int, cycles: NDArray[np.floating]) -> NDArray[np.complex128]:
    """Matched filters for delays in cycles per subcarrier under a Hamming window, [subcarriers, delays]."""
    window = np.hamming(subcarriers) if subcarriers > 1 else np.ones(1)
    index = np.arange(subcarriers)[:, None]
    filters: NDArray[np.complex128] = np.exp(2j * np.pi * index * cycles) * window[:, None] / window.sum()
    return filters


def _describe_sto(sigma: float | None) -> tuple[float, float]:
    """Its logarithm, and whether it is unknown."""
    return (0.0, 1.0) if sigma is None else (math.log10(1 + sigma / 1e-9), 0.0)


def _as_real(matrix: NDArray[np.complexfloating]) -> _Floats:
    """The real matrix [2m, 2n] that multiplies interleaved pairs from the right, for a complex one [m, n].

    It gives all real parts, then all imaginary parts.
    """
    of_real = np.concatenate([matrix.real, matrix.imag], axis=1)
    of_imaginary = np.concatenate([-matrix.imag, matrix.real], axis=1)
    return np.stack([of_real, of_imaginary], axis=1).reshape(2 * len(matrix), -1).astype(np.float32)

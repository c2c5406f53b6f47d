"""The position error bound: how well the CSI of one snapshot can tell where a user is, given the paths' geometry.

It is the Cramér-Rao bound of the user's horizontal position (the height is known) from CSI with white noise.

**Geometry.** A path of reflections looks to the BS like a straight line from an image source at c τ k, with the delay τ
and the unit vector of departure k. When the user moves by dx, the image source moves by Q dx, where Q is orthogonal.
The delay grows by ``-a·dx / c``, with the unit vector of arrival a from the user towards the last reflector, so Q turns
-a into k. In the plane two such matrices exist, a rotation and a mirror image. The number of reflections at walls
decides: each one mirrors. This assumes vertical walls and level ground and roofs, and refraction without bending, as in
the cities that we trace. A level reflector shows by directions of arrival and departure that are both above or both
below the horizon, and mirrors no horizontal axis.

**Unknowns beside the position.** The level and the phase of every path at each polarisation. The phase has a sigma of
one radian, the level one of 8.7 dB (which is one neper) unless the caller knows better. For resolved paths such priors
say next to nothing. They bound what paths that the radio cannot resolve may imitate together; without them those paths
would count as useless. Sampling-time offset (STO) is unknown, known, or known to within a sigma. The random common
phase is in the phases of the paths, and so is all that the carrier tells about a delay.

**Levels.** A path's level falls with its length. Streets change levels by decibels in ways that no survey shows, so by
default levels tell nothing. In ray-traced cells they are exact: at 20 dB a model can read the range of a user in line
of sight from the level, to about a decimetre. ``level_sigma_db`` says to within how many decibels a model can know the
levels. A model that is measured in traced cells without gain errors can fall below the bound with unknown levels, but
not below that with exact ones.

**Phases.** How the phases of two paths differ tells the position to a part of a wavelength, if one knew how. References
that stand many wavelengths apart cannot show it, so the bound does not count it. The exception is a direct path and its
reflection at the ground: their fading is slow enough to be learned, and a model that does can fall below the bound.

**Not a promise.** The bound takes image sources, and with them Q, as known. A model must first learn them from
references with errors of their own. It is a floor of the root-mean-square error, for snapshots without other defects
than noise, phase and STO. The mean error of a Gaussian is 0.80 to 0.89 of its root-mean-square error.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.errors import TrainerError
from models.radio.channel import (
    departure_directions,
    element_positions,
    observe_waves,
    path_gains,
    subcarrier_offsets,
)
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from reference_db.path_features import SPEED_OF_LIGHT

WEAKEST_DB = 30.0  # below the user's strongest path. Weaker paths count as absent.
MOST_PATHS = 20  # of one user, the strongest
SPECULAR, REFRACTION = 1, 4  # Sionna's InteractionType
EXACT = 1e-9  # nepers
LEVEL = 1e-6  # of a product of sines of elevation, which is 1e-4 and more where the ground reflects


class UnknownReflections(TrainerError):
    """The interactions of a table's paths are unknown, and with them how the image sources move."""


class UnknownTiming(TrainerError):
    """A timing is neither ``known`` nor ``unknown`` nor a number of nanoseconds."""


def position_error_bound(
    table: PathTable,
    radio: Radio,
    yaw: float,
    snr_db: float,
    timing_known: bool,
    gnss_m: float | None,
    users: NDArray[np.int64] | None = None,
    *,
    carrier_frequency: float | None = None,
    timing_sigma: float | None = None,
    level_sigma_db: float | None = None,
) -> NDArray[np.float64]:
    """The bound of the root-mean-square error in metres of every user, or of these ``users`` (rows of the table).

    ``gnss_m`` is the 1-sigma error per axis of a fix, if there is one. An unknown STO (``timing_known`` false) may have
    a known ``timing_sigma`` in seconds. ``level_sigma_db`` is 0 for exact levels of paths, None for unknown ones. NaN
    for users that no path reaches.

    Raises `UnknownReflections` and `NotPolarised`.
    """
    known = 0.0 if timing_known else timing_sigma
    information = position_information(table, radio, yaw, snr_db, known, users, carrier_frequency, level_sigma_db)
    if gnss_m is not None:
        information = information + np.eye(2) / gnss_m**2
    reached = np.isfinite(information).all((1, 2))
    bound = np.full(len(information), np.nan)
    eigenvalues = np.maximum(np.linalg.eigvalsh(information[reached]), 0)
    with np.errstate(divide="ignore"):
        bound[reached] = np.sqrt((1 / eigenvalues).sum(axis=1))
    return bound


def position_information(
    table: PathTable,
    radio: Radio,
    yaw: float,
    snr_db: float,
    timing_sigma: float | None,
    users: NDArray[np.int64] | None = None,
    carrier_frequency: float | None = None,
    level_sigma_db: float | None = None,
) -> NDArray[np.float64]:
    """The Fisher information of the horizontal position of every user, or of these, [users, 2, 2] in 1 / m².

    ``timing_sigma`` in seconds is 0 for a known STO and None for one of which nothing is known. NaN for users that no
    path reaches.
    """
    carrier = carrier_frequency or table.site.carrier_frequency
    elements = element_positions(radio.array, yaw) * (SPEED_OF_LIGHT / carrier)
    offsets_hz = subcarrier_offsets(radio.subcarriers, radio.bandwidth)
    direction, motion = departure_directions(table), image_motion(table)
    gains = path_gains(table, radio, yaw, carrier)
    power = (np.abs(gains) ** 2).sum(axis=1)
    level_sigma = 1.0 if level_sigma_db is None else max(level_sigma_db * math.log(10) / 20, EXACT)

    chosen = np.arange(len(table.users)) if users is None else users
    information = np.full((len(chosen), 2, 2), np.nan)
    with threadpool_limits(1):  # the matrices are small: threads cost more than they save
        for place, user in enumerate(chosen):
            rows = np.arange(table.offsets[user], table.offsets[user + 1])
            if len(rows) == 0:
                continue
            rows = rows[np.argsort(-power[rows], kind="stable")[:MOST_PATHS]]
            rows = rows[power[rows] > power[rows[0]] * 10 ** (-WEAKEST_DB / 10)]
            if len(rows) == 0:  # the pattern is blind in all directions
                information[place] = 0
                continue
            delay = table.delay[rows].astype(np.float64)
            waves = observe_waves(radio.wavefronts, direction[rows], delay, elements, offsets_hz, carrier)
            seen = gains[rows].T[:, :, None, None] * waves  # [polarisations, paths, elements, subcarriers]
            shift = np.einsum("pi,pij->pj", direction[rows, :2], motion[rows])  # of the length, per metre of the user
            bend = _change_over_array(radio, direction[rows], SPEED_OF_LIGHT * delay, motion[rows], shift, elements)
            at_carrier = carrier + offsets_hz if radio.wavefronts == "spherical" else np.full_like(offsets_hz, carrier)
            change = at_carrier * np.einsum("qpes,pej->qjes", seen, bend, optimize=True)
            change = change + offsets_hz * np.einsum("qpes,pj->qjes", seen, shift, optimize=True)
            fainter = np.einsum("qpes,pj->qjes", seen, -shift / (SPEED_OF_LIGHT * delay)[:, None], optimize=True)
            late = offsets_hz * seen.sum(axis=1)[:, None]  # of a metre of STO
            jacobian = (-2j * np.pi / SPEED_OF_LIGHT) * np.concatenate([change, late], axis=1)
            jacobian[:, :2] += fainter
            noise = np.mean(np.abs(seen.sum(axis=1)) ** 2) * 10 ** (-snr_db / 10)
            information[place] = _reduce(jacobian, seen, noise, level_sigma, timing_sigma)
    return information


def image_motion(table: PathTable) -> NDArray[np.float64]:
    """Q of every path: the horizontal motion of its image source per motion of the user, [paths, 2, 2].

    Raises `UnknownReflections`.
    """
    if not np.isin(table.interactions, (0, SPECULAR, REFRACTION)).all():
        raise UnknownReflections(f"{table.site.name} does not say how its paths were reflected")
    (zenith, azimuth), (zenith_back, azimuth_back) = table.departure.astype(np.float64).T, table.arrival.T
    level = np.cos(zenith) * np.cos(zenith_back) > LEVEL
    walls = (table.interactions == SPECULAR).sum(axis=1) - level
    sign = np.where(walls % 2 == 1, -1.0, 1.0)
    turn = azimuth - sign * (azimuth_back + np.pi)  # the direction in which an eastward motion of the user is seen
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([np.stack([cos, -sign * sin], axis=-1), np.stack([sin, sign * cos], axis=-1)], axis=-2)


def _change_over_array(
    radio: Radio,
    direction: NDArray[np.float64],  # [paths, 3]
    length: NDArray[np.float64],  # [paths]
    motion: NDArray[np.float64],  # [paths, 2, 2]
    shift: NDArray[np.float64],  # [paths, 2]
    elements: NDArray[np.float64],  # [elements, 3]
) -> NDArray[np.float64]:
    """By how much the way to each element grows more than the way to the centre, per metre of the user's motion.

    [paths, elements, 2]
    """
    if radio.wavefronts == "plane":  # -k·r, with k turning by the part of the motion across it
        along = (direction @ elements.T)[:, :, None] * shift[:, None]
        across: NDArray[np.float64] = np.einsum("ei,pij->pej", elements[:, :2], motion)
        return (along - across) / length[:, None, None]
    way = length[:, None, None] * direction[:, None] - elements  # [paths, elements, 3]
    turned = way / np.linalg.norm(way, axis=-1, keepdims=True) - direction[:, None]
    bend: NDArray[np.float64] = np.einsum("pei,pij->pej", turned[..., :2], motion)
    return bend


def _reduce(
    jacobian: NDArray[np.complex128],  # [polarisations, 3, elements, subcarriers]: x, y, and STO in metres
    seen: NDArray[np.complex128],  # [polarisations, paths, elements, subcarriers]
    noise: float,  # variance of each complex value of CSI
    level_sigma: float,  # nepers
    timing_sigma: float | None,
) -> NDArray[np.float64]:
    """The information of x and y that is left when levels, phases and STO are unknown, [2, 2]."""
    total = np.zeros((3, 3))
    prior = np.diag(np.repeat([1 / level_sigma**2, 1.0], seen.shape[1]))  # first all levels, then all phases
    for changes, paths in zip(jacobian.reshape(len(seen), 3, -1), seen.reshape(*seen.shape[:2], -1), strict=True):
        raw = (changes.conj() @ changes.T).real
        shared, gram = paths.conj() @ changes.T, paths.conj() @ paths.T  # a path changes by itself, or by j of itself
        both = np.concatenate([shared.real, shared.imag])
        grams = np.block([[gram.real, -gram.imag], [gram.imag, gram.real]])
        total += 2 / noise * (raw - both.T @ np.linalg.solve(grams + noise / 2 * prior, both))
    if timing_sigma == 0:
        return total[:2, :2]
    late = total[2, 2] + (0.0 if timing_sigma is None else 1 / (SPEED_OF_LIGHT * timing_sigma) ** 2)
    if late <= 0:  # one subcarrier says nothing about delays
        return total[:2, :2]
    left: NDArray[np.float64] = total[:2, :2] - np.outer(total[:2, 2], total[2, :2]) / late
    return left


def parse_timing(text: str) -> float | None:
    """``known``, ``unknown`` or nanoseconds as the 1-sigma of an STO in seconds. Raises `UnknownTiming`."""
    words = {"known": 0.0, "unknown": None}
    if text in words:
        return words[text]
    try:
        sigma = float(text) * 1e-9
    except ValueError:
        sigma = -1.0
    if not 0 <= sigma < 1:
        raise UnknownTiming(f"timing is {text!r}: use known, unknown or nanoseconds")
    return sigma


def describe_bounds(cell: str, bounds: NDArray[np.float64], in_sight: NDArray[np.bool_]) -> list[list[str]]:
    """Rows of a table of bounds in metres: cell, sight, users, mean, median and 90th percentile."""
    rows = []
    for name, part in (("LOS", bounds[in_sight]), ("NLOS", bounds[~in_sight])):
        numbers = [np.mean(part), *np.quantile(part, (0.5, 0.9), method="lower")] if len(part) else []
        rows.append([cell, name, str(len(part)), *(f"{metres:.3f}" for metres in numbers), *["-"] * (3 - len(numbers))])
    return rows

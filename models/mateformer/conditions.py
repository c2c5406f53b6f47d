"""Evaluation conditions: the same held-out users, located with other fixes, retrieval, radios and references."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from models.errors import TrainerError
from models.mateformer.designs import BASE, DESIGNS
from models.mateformer.recipe import MateformerRecipe
from models.radio.impairments import Impairments
from models.radio.street_changes import StreetState
from reference_db.retrieval import Mode

PERFECT = Impairments()
STREET = Impairments(snr_db=20, phase=True, timing_s=20e-9)
EVERYTHING = STREET.model_copy(update={"gain_db": 3.0, "dead_antennas": 1, "bits": 8})

# How the errors of fixes are drawn. All have the stated 1-sigma error. Heavy-tailed: Student's t with 3 degrees of
# freedom. Correlated: half of the variance is one error that all users of the cell have in common.
FixErrors = Literal["gaussian", "heavy-tailed", "correlated", "uniform"]
# Where the references stand: all over the street, on its centre line, or on two lines along its edges.
Layout = Literal["area", "centre line", "pavements"]
Streets = tuple[StreetState, StreetState]  # what stands in the street when its references and its users are measured
SAME_DAY: Streets = (StreetState.CARS, StreetState.CARS)
WEEK_LATER: Streets = (StreetState.CARS, StreetState.CARS_MOVED)
REGION_M = 15.0  # side of the squares that are left out as a whole
PAPER_FIX = 1 / math.sqrt(3)  # metres: 1 sigma of an error uniform within ± 1 m, which the paper of Mateformer assumes


@dataclass(frozen=True)
class Condition:
    """Two conditions are equal if they measure the same, whatever their names. None stands for the recipe's value."""

    name: str = field(compare=False)
    label: str = field(compare=False)
    gnss: float | None = 1.0  # 1-sigma error of the fix per axis, metres; None means that there is no fix
    mode: Mode = "fused"
    passes: int | None = None
    pitch: float | None = None  # metres between the tiles that neighbourhoods are retrieved around
    radio: Impairments = PERFECT
    surveyed: bool = False  # only the users have this radio; the references were measured with a perfect one
    references: int | None = None  # per cell
    neighbours: int | None = None
    rivals: bool = field(default=True, compare=False)  # compare with kNN, the bare fix and the bound
    fixes: FixErrors = "gaussian"
    design: str = BASE  # of `models.mateformer.designs`
    timing_stated: bool = True  # the model is told how well survey and users are synchronised
    alike: bool = False  # surveyed references get the users' sampling-time offsets and phases before they are used
    layout: Layout = "area"
    label_sigma: float = 0.0  # 1-sigma error per axis of the references' positions, metres, which the model is told
    region: float | None = None  # side in metres of the squares of which a user's own has no references
    streets: Streets | None = None  # None: bare

    def complete_from(self, recipe: MateformerRecipe) -> Condition:
        """This condition with the recipe's values in place of None."""
        return replace(
            self,
            passes=self.passes or recipe.retrieval.passes,
            pitch=recipe.retrieval.tile_pitch if self.pitch is None else self.pitch,
            references=self.references or recipe.cells.references,
            neighbours=self.neighbours or recipe.retrieval.neighbourhood_size,
        )

    @property
    def sto(self) -> tuple[float | None, float | None]:
        """The 1-sigma sampling-time offset, seconds, of references and of users, as stated to the model."""
        if not self.timing_stated:
            return None, None
        users = self.radio.timing_s / math.sqrt(3)  # uniform within ± timing_s
        return (0.0 if self.surveyed and not self.alike else users), users


def select_possible(conditions: Iterable[Condition], recipe: MateformerRecipe) -> list[Condition]:
    """The conditions for which the recipe's cells have enough references, each once, with the recipe's values."""
    filled = [condition.complete_from(recipe) for condition in conditions]
    return [one for one in dict.fromkeys(filled) if one.neighbours <= one.references <= recipe.cells.references]


GNSS_1M = Condition("gnss_1m", "GNSS 1 m")
GNSS_10M = Condition("gnss_10m", "GNSS 10 m", gnss=10.0)
NO_GNSS = Condition("no_gnss", "no GNSS", gnss=None)
STREET_1M = Condition("street", "street radio, GNSS 1 m", radio=STREET)
STREET_NO_GNSS = Condition("street_no_gnss", "street, no GNSS", gnss=None, radio=STREET)
# A clocked survey and unclocked users: as the service locates them, and with the references left as they are.
ALIKE_1M = Condition(
    "street_users_alike", "street, users only, references degraded alike", radio=STREET, surveyed=True, alike=True
)
USERS_1M = Condition("street_users", "street, users only", radio=STREET, surveyed=True)

HEADLINE = (GNSS_1M, GNSS_10M, NO_GNSS, STREET_1M)


def _other_mode(mode: Mode, fix: Condition, label: str, passes: int | None = None) -> Condition:
    name = mode if mode in ("random", "iterative") else f"{mode}_{fix.name}"
    return Condition(name, label, gnss=fix.gnss, mode=mode, passes=passes, rivals=False)


def _radio(name: str, label: str, **impairments: float | bool) -> Condition:
    return Condition(name, label, radio=Impairments.model_validate(impairments))


def _street(name: str, label: str, gnss: float | None, fixes: FixErrors = "gaussian") -> Condition:
    return Condition(f"street_{name}", label, gnss=gnss, radio=STREET, fixes=fixes)


FIXES = (
    GNSS_1M,
    Condition("gnss_3m", "GNSS 3 m", gnss=3.0),
    GNSS_10M,
    Condition("gnss_20m", "GNSS 20 m", gnss=20.0),
    Condition("gnss_50m", "GNSS 50 m", gnss=50.0),
    NO_GNSS,
)
DENSITIES = tuple(
    Condition(f"references_{count}", f"{count}", references=count) for count in (2000, 1000, 500, 250, 100)
)
_REGION = f"region of {REGION_M:g} m x {REGION_M:g} m left out"
DESIGNS_1M, DESIGNS_NO_GNSS, DESIGNS_STREET = (
    tuple(replace(fix, name=f"{name}_{fix.name}", label=design.label, design=name) for name, design in DESIGNS.items())
    for fix in (GNSS_1M, NO_GNSS, STREET_1M)
)

AXES: dict[str, tuple[Condition, ...]] = {
    "GNSS error, 1 sigma an axis": FIXES,
    "Errors of the fix, clean CSI": (
        Condition("paper", "the paper's setting: uniform ± 1 m", gnss=PAPER_FIX, fixes="uniform"),
        *(
            Condition(f"{kind}_{metres:g}m", f"{kind}, {metres:g} m", gnss=metres, fixes=kind)
            for kind in ("heavy-tailed", "correlated")
            for metres in (1.0, 3.0, 10.0)
        ),
    ),
    "Retrieval": (
        replace(GNSS_1M, label="fused, GNSS 1 m"),
        replace(GNSS_10M, label="fused, GNSS 10 m"),
        replace(NO_GNSS, label="fused, no GNSS"),
        _other_mode("neighbourhood", GNSS_1M, "neighbourhood, GNSS 1 m"),
        _other_mode("neighbourhood", GNSS_10M, "neighbourhood, GNSS 10 m"),
        _other_mode("signal", GNSS_1M, "signal, GNSS 1 m"),
        _other_mode("signal", GNSS_10M, "signal, GNSS 10 m"),
        _other_mode("signal", NO_GNSS, "signal, no GNSS"),
        _other_mode("random", NO_GNSS, "random, once", passes=1),
        _other_mode("iterative", NO_GNSS, "iterative, 4 passes", passes=4),
    ),
    "Radio of references and users, unless stated otherwise, GNSS 1 m": (
        replace(GNSS_1M, label="clean"),
        _radio("snr_30db", "SNR 30 dB", snr_db=30),
        _radio("snr_20db", "SNR 20 dB", snr_db=20),
        _radio("snr_10db", "SNR 10 dB", snr_db=10),
        _radio("phase", "random phase", phase=True),
        _radio("timing_5ns", "timing ± 5 ns", timing_s=5e-9),
        _radio("timing_20ns", "timing ± 20 ns", timing_s=20e-9),
        _radio("gain_3db", "gain 3 dB (1 sigma)", gain_db=3),
        _radio("dead_antenna", "a dead antenna", dead_antennas=1),
        _radio("bits_8", "8 bit", bits=8),
        replace(STREET_1M, label="street: SNR 20 dB, phase, ± 20 ns"),
        Condition("everything", "street, gain 3 dB, dead antenna, 8 bit", radio=EVERYTHING),
        STREET_NO_GNSS,
        USERS_1M,
        Condition("street_users_no_gnss", "street, users only, no GNSS", None, radio=STREET, surveyed=True),
    ),
    "Clocks, street radio, GNSS 1 m": (
        replace(STREET_1M, label="street"),
        replace(STREET_1M, name="street_unstated", label="street, timing stated as unknown", timing_stated=False),
        USERS_1M,
        replace(
            USERS_1M,
            name="street_users_unstated",
            label="street, users only, timing stated as unknown",
            timing_stated=False,
        ),
        ALIKE_1M,
        replace(ALIKE_1M, name="street_users_alike_no_gnss", label=f"{ALIKE_1M.label}, no GNSS", gnss=None),
        replace(
            ALIKE_1M,
            name="street_users_alike_unstated",
            label=f"{ALIKE_1M.label}, timing stated as unknown",
            timing_stated=False,
        ),
    ),
    "Fixes with street radio": (
        replace(STREET_1M, label="GNSS 1 m"),
        _street("3m", "GNSS 3 m", 3.0),
        _street("10m", "GNSS 10 m", 10.0),
        replace(STREET_NO_GNSS, label="no GNSS"),
        _street("paper", "the paper's setting: uniform ± 1 m", PAPER_FIX, "uniform"),
        _street("heavy-tailed_3m", "heavy-tailed, 3 m", 3.0, "heavy-tailed"),
        _street("correlated_3m", "correlated, 3 m", 3.0, "correlated"),
    ),
    "References a cell of 60 m x 60 m, GNSS 1 m": DENSITIES,
    "References on lines along the street, ± 0.5 m, GNSS 1 m": (
        Condition("centre_line", "centre line", layout="centre line"),
        Condition("pavements", "both pavements", layout="pavements"),
        Condition("centre_line_street", "centre line, street radio", layout="centre line", radio=STREET),
        Condition("pavements_street", "both pavements, street radio", layout="pavements", radio=STREET),
    ),
    "The user's region left out of the references": (
        replace(GNSS_1M, label="no region left out, GNSS 1 m"),
        Condition("region", f"{_REGION}, GNSS 1 m", region=REGION_M),
        replace(NO_GNSS, label="no region left out, no GNSS"),
        Condition("region_no_gnss", f"{_REGION}, no GNSS", gnss=None, region=REGION_M),
    ),
    "References of a street with six cars and a bus": (
        Condition("same_day", "users of the same day, GNSS 1 m", streets=SAME_DAY),
        Condition("week", "users a week later, all vehicles elsewhere, GNSS 1 m", streets=WEEK_LATER),
        Condition("same_day_no_gnss", "users of the same day, no GNSS", gnss=None, streets=SAME_DAY),
        Condition("week_no_gnss", "users a week later, all vehicles elsewhere, no GNSS", gnss=None, streets=WEEK_LATER),
    ),
    "Errors of the references' positions, 1 sigma an axis, known, GNSS 1 m": tuple(
        Condition(f"labels_{metres:g}m", f"{metres:g} m" if metres else "none", label_sigma=metres)
        for metres in (0.0, 0.3, 1.0)
    ),
    "Radio design, GNSS 1 m": DESIGNS_1M,
    "Radio design, no GNSS": DESIGNS_NO_GNSS,
    "Radio design, street radio, GNSS 1 m": DESIGNS_STREET,
    "Tile pitch, GNSS 1 m": tuple(
        Condition(f"tile_{pitch}m", f"{pitch} m" if pitch else "0 (exact)", pitch=pitch, rivals=False)
        for pitch in (0, 1, 2, 4, 6)
    ),
    "Tile pitch, no GNSS": tuple(
        Condition(f"tile_{pitch}m_no_gnss", f"{pitch} m" if pitch else "0 (exact)", None, pitch=pitch, rivals=False)
        for pitch in (0, 2, 4)
    ),
    "Neighbourhood, GNSS 1 m": tuple(
        Condition(f"neighbours_{count}", f"{count}", neighbours=count, rivals=False) for count in (16, 32, 64, 96)
    ),
}

# The conditions of the acceptance table.
ACCEPTANCE: tuple[Condition, ...] = (
    *HEADLINE,
    *FIXES,
    STREET_NO_GNSS,
    USERS_1M,
    ALIKE_1M,
    *(one for one in DENSITIES if one.references == 250),
    *DESIGNS_1M,
)

# The headline comes first: of two equal conditions, its name and its rivals stay.
ALL: tuple[Condition, ...] = (*HEADLINE, *(condition for axis in AXES.values() for condition in axis))
SETS = {"headline": HEADLINE, "acceptance": ACCEPTANCE, "all": ALL}


class UnknownCondition(TrainerError):
    """There is no evaluation condition of this name."""


def find_conditions(names: Iterable[str]) -> list[Condition]:
    """The conditions of these names, or of the `SETS` of these names. Raises `UnknownCondition`."""
    named = {condition.name: (condition,) for condition in reversed(ALL)}  # of two with one name, the headline's
    known: dict[str, tuple[Condition, ...]] = {**named, **SETS}
    names = list(names)
    if unknown := set(names) - set(known):
        listed = ", ".join([*SETS, *sorted(named)])
        raise UnknownCondition(f"unknown conditions: {', '.join(sorted(unknown))}; known are {listed}")
    return [condition for name in names for condition in known[name]]

"""Evaluation conditions: the same held-out users, located with other fixes, retrieval, radios and references."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from models.mateformer.recipe import MateformerRecipe
from models.radio.impairments import Impairments
from reference_db.retrieval import Mode

PERFECT = Impairments()
STREET = Impairments(snr_db=20, phase=True, timing_s=20e-9)
EVERYTHING = STREET.model_copy(update={"gain_db": 3.0, "dead_antennas": 1, "bits": 8})


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
    rivals: bool = field(default=True, compare=False)  # compare with kNN and the bare fix

    def complete_from(self, recipe: MateformerRecipe) -> Condition:
        """This condition with the recipe's values in place of None."""
        return replace(
            self,
            passes=self.passes or recipe.retrieval.passes,
            pitch=recipe.retrieval.tile_pitch if self.pitch is None else self.pitch,
            references=self.references or recipe.cells.references,
            neighbours=self.neighbours or recipe.retrieval.neighbourhood_size,
        )


def select_possible(conditions: Iterable[Condition], recipe: MateformerRecipe) -> list[Condition]:
    """The conditions for which the recipe's cells have enough references, each once, with the recipe's values."""
    filled = [condition.complete_from(recipe) for condition in conditions]
    return [one for one in dict.fromkeys(filled) if one.neighbours <= one.references <= recipe.cells.references]


GNSS_1M = Condition("gnss_1m", "GNSS 1 m")
GNSS_10M = Condition("gnss_10m", "GNSS 10 m", gnss=10.0)
NO_GNSS = Condition("no_gnss", "no GNSS", gnss=None)
STREET_1M = Condition("street", "street radio, GNSS 1 m", radio=STREET)

HEADLINE = (GNSS_1M, GNSS_10M, NO_GNSS, STREET_1M)


def _other_mode(mode: Mode, fix: Condition, label: str, passes: int | None = None) -> Condition:
    name = mode if mode in ("random", "iterative") else f"{mode}_{fix.name}"
    return Condition(name, label, gnss=fix.gnss, mode=mode, passes=passes, rivals=False)


def _radio(name: str, label: str, **impairments: float | bool) -> Condition:
    return Condition(name, label, radio=Impairments.model_validate(impairments))


AXES: dict[str, tuple[Condition, ...]] = {
    "GNSS error, 1 sigma an axis": (
        GNSS_1M,
        Condition("gnss_3m", "GNSS 3 m", gnss=3.0),
        GNSS_10M,
        Condition("gnss_20m", "GNSS 20 m", gnss=20.0),
        NO_GNSS,
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
        Condition("street_no_gnss", "street, no GNSS", gnss=None, radio=STREET),
        Condition("street_users", "street, users only", radio=STREET, surveyed=True),
        Condition("street_users_no_gnss", "street, users only, no GNSS", None, radio=STREET, surveyed=True),
    ),
    "References a cell of 60 m x 60 m, GNSS 1 m": tuple(
        Condition(f"references_{count}", f"{count}", references=count) for count in (2000, 1000, 500, 250)
    ),
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

# The headline comes first: of two equal conditions, its name and its rivals stay.
ALL: tuple[Condition, ...] = (*HEADLINE, *(condition for axis in AXES.values() for condition in axis))

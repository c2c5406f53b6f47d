"""The radios that held-out cells are observed with: one artifact serves them all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.mateformer.recipe import MateformerRecipe
from models.radio.front_end import Radio
from models.radio.tracing import band_folder
from reference_db.cell import AntennaArray

BASE = "base"  # the recipe's own radio


@dataclass(frozen=True)
class Design:
    """A radio at a carrier (hertz)."""

    label: str
    radio: Radio
    carrier_frequency: float

    def folder(self, paths: Path, recipe: MateformerRecipe) -> Path:
        """Where the path tables of its carrier lie."""
        return (
            paths
            if self.carrier_frequency == recipe.radio.carrier_frequency
            else band_folder(paths, self.carrier_frequency)
        )


def _planar(
    rows: int,
    columns: int,
    bandwidth_mhz: float,
    subcarriers: int,
    carrier_ghz: float,
    polarisations: Literal[1, 2] = 1,
) -> Design:
    array = AntennaArray(rows=rows, columns=columns, polarisations=polarisations)
    shape = f"2 x ({rows} x {columns})" if polarisations == 2 else f"{rows} x {columns}"
    return Design(
        f"{shape}, {subcarriers} subcarriers over {bandwidth_mhz:g} MHz at {carrier_ghz:g} GHz",
        Radio(array=array, subcarriers=subcarriers, bandwidth=bandwidth_mhz * 1e6, wavefronts="spherical"),
        carrier_ghz * 1e9,
    )


DESIGNS: dict[str, Design] = {
    "8x8": _planar(8, 8, 100, 64, 3.5),
    "4x4": _planar(4, 4, 20, 48, 2.6),
    "64x1": _planar(1, 64, 100, 64, 28),
    "8x1": _planar(1, 8, 20, 48, 3.5),
    "2x4x8": _planar(4, 8, 60, 64, 3.5, polarisations=2),
}


def find_design(name: str, recipe: MateformerRecipe) -> Design:
    if name != BASE:
        return DESIGNS[name]
    radio = Radio.model_validate({field: getattr(recipe.radio, field) for field in Radio.model_fields})
    return Design("the recipe's radio", radio, recipe.radio.carrier_frequency)

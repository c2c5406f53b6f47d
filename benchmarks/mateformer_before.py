"""The Mateformer of an artifact of schema version 1, measured on the users of a later recipe.

``python -m benchmarks.mateformer_before OLD_FOLDER`` prints the tables that ``fingerpost-train evaluate`` writes for
the artifacts of today. An old artifact serves one radio, 32 antennas and 32 subcarriers over 40 MHz at 3.5 GHz, so it
is measured in the recipe's own radio only. It predicts no ellipses, and is told neither clocks nor label errors. Take
the folder out of the history, for example:

    git archive e6e7ee5 models/artifacts/mateformer | tar -x -C /tmp
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.artifact.channel_transform import ChannelTransform
from models.mateformer.conditions import find_conditions
from models.mateformer.designs import BASE
from models.mateformer.locators import Positions
from models.mateformer.measurement import measure
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.report import TABLE_FILE, write_report

RECIPE = Path("models/mateformer/recipes/mateformer.yaml")
INPUTS = ("csi_known", "positions_known", "csi", "coarse", "accuracy")

_Floats = NDArray[np.float32]


class OldLocator:
    """Runs the graph ``full`` of schema version 1. The features of a snapshot are its CSI."""

    def __init__(self, graph: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._shape = (*self._session.get_inputs()[0].shape[2:],)  # antennas, subcarriers, 2

    def describe(self, channel: ChannelTransform, csi: NDArray[np.complex64]) -> _Floats:
        return np.ascontiguousarray(csi)[..., None].view(np.float32).reshape(len(csi), -1)

    def locate(
        self,
        features_known: _Floats,
        positions_known: _Floats,
        sigmas_known: _Floats,
        features: _Floats,
        coarse: _Floats,
        accuracy: _Floats,
    ) -> Positions:
        known, asked = (array.reshape(*array.shape[:2], *self._shape) for array in (features_known, features))
        inputs = dict(zip(INPUTS, (known, positions_known, asked, coarse, accuracy), strict=True))
        positions = self._session.run(["positions"], inputs)[0]
        return Positions(positions, np.full((*positions.shape, 2), np.nan, np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the old artifact")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="recipe that names the cells")
    parser.add_argument("--paths", type=Path, default=Path("runs/paths"), help="folder of the path tables")
    parser.add_argument("--split", nargs="+", default=["test"], choices=["validation", "test"])
    parser.add_argument("--conditions", default="headline", help="as of `fingerpost-train evaluate`")
    parser.add_argument("--users", type=int, default=None, help="users per cell")
    parser.add_argument("--out", type=Path, default=Path("runs/before"), help="folder of the tables")
    chosen = parser.parse_args()
    recipe = MateformerRecipe.load(chosen.recipe)
    conditions = [one for one in find_conditions(chosen.conditions.split(",")) if one.design == BASE]
    locator = OldLocator(chosen.folder / "full.onnx", os.cpu_count() or 1)
    results = measure(locator, recipe, chosen.paths, chosen.split, conditions, chosen.users)
    write_report(results, conditions, recipe, chosen.out)
    print((chosen.out / TABLE_FILE).read_text())


if __name__ == "__main__":
    main()

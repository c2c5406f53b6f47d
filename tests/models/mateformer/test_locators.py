from pathlib import Path

import numpy as np

from models.artifact import MateformerManifest, load_artifact
from models.mateformer.locators import onnx_locator
from models.mateformer.recipe import MateformerRecipe
from models.radio.cells import load_cell
from reference_db.index.position import PositionIndex

ROOT = Path(__file__).parents[3]


def test_the_shipped_artifact_locates_users_near_their_places() -> None:
    radio = MateformerRecipe.load(ROOT / "models" / "mateformer" / "recipes" / "mateformer.yaml").radio
    cell = load_cell(Path(__file__).parents[1] / "data" / "etoile-0900.paths.safetensors", radio)
    users = np.arange(0, len(cell.positions), 40)
    near, _ = PositionIndex(cell.positions).nearest(cell.positions[users], 41)
    known = near[:, 1:]
    csi_known, csi = (cell.csi[rows][..., None].view(np.float32) for rows in (known, users[:, None]))
    locate = onnx_locator(load_artifact(ROOT / "models" / "artifacts" / "mateformer", MateformerManifest), threads=1)
    nothing = np.zeros((len(users), 1, 2), np.float32), np.full((len(users), 1), np.inf, np.float32)
    answers = locate(csi_known, cell.positions[known], csi, *nothing)
    errors = np.linalg.norm(answers[:, 0] - cell.positions[users], axis=1)
    spread = np.linalg.norm(cell.positions[known].mean(1) - cell.positions[users], axis=1)
    assert np.median(errors) < 0.5 * np.median(spread)

from pathlib import Path

import numpy as np
import torch

from models.mateformer.data import load_cell
from models.mateformer.teacher import Teacher
from models.pipeline.recipe import load_recipe
from reference_db.index.position import PositionIndex

ROOT = Path(__file__).parents[3]


def test_the_shipped_artifact_can_teach() -> None:
    radio = load_recipe(ROOT / "models" / "recipes" / "mateformer.yaml").radio
    cell = load_cell(Path(__file__).parents[1] / "data" / "etoile-0900.paths.safetensors", radio)
    users = np.arange(0, len(cell.positions), 40)
    near, _ = PositionIndex(cell.positions).nearest(cell.positions[users], 41)
    known = near[:, 1:]
    csi_known, csi = (torch.view_as_real(torch.from_numpy(cell.csi[rows])) for rows in (known, users[:, None]))
    teacher = Teacher(ROOT / "models" / "artifacts" / "mateformer")
    nothing = torch.zeros(len(users), 1, 2), torch.full((len(users), 1), torch.inf)
    answers = teacher.positions(csi_known, torch.from_numpy(cell.positions[known]), csi, *nothing)
    errors = np.linalg.norm(answers[:, 0].numpy() - cell.positions[users], axis=1)
    spread = np.linalg.norm(cell.positions[known].mean(1) - cell.positions[users], axis=1)
    assert np.median(errors) < 0.5 * np.median(spread)

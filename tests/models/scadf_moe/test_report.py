import json
from pathlib import Path

import numpy as np
import pytest

from models.families import find_yaml
from models.pipeline.experiment import save_result
from models.pipeline.learner import LOG_FILE
from models.scadf_moe.experiment import ERRORS_FILE, load_experiment
from models.scadf_moe.report import plot_results


@pytest.mark.parametrize("file", find_yaml("scadf_moe", "experiments"), ids=lambda file: file.stem)
def test_the_figure_has_room_for_the_variants_of_every_committed_experiment(file: Path, tmp_path: Path) -> None:
    """Matplotlib warns where it has not, and warnings are errors here."""
    experiment, recipes = load_experiment(file, "small")
    for run, recipe in recipes.items():
        folder = run.folder(tmp_path)
        folder.mkdir(parents=True)
        save_result({"recipe": recipe.digest, "mse_m2": {"all": {"overall": 1.0, "unseen_nlos": 2.0}}}, folder)
        lines = [json.dumps({"step": step, "mse_m2": 100 / step}) for step in (50, 100)]
        (folder / LOG_FILE).write_text("\n".join(lines))
        np.savez(folder / ERRORS_FILE, **{"6e9": np.ones((2, 5)), "6e9_los": np.eye(2, 5, dtype=np.bool_)})
    plot_results(experiment, recipes, {"exact": tmp_path}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")

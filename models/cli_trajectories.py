"""What `fingerpost-train fit` and `export` do with a recipe for trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.training.trajectory_recipe import TrajectoryRecipe

SHOWN = 60  # trajectories


def fit_trajectories(recipe: TrajectoryRecipe, run: Path, paths: Path, device: str, until: int | None) -> None:
    import torch

    from models.radio.trajectories import NoTrajectories
    from models.training.learner import RecipeChanged
    from models.training.trajectory_corpus import OtherUsers, build_trajectories
    from models.training.trajectory_fit import TrajectoryFit

    try:
        TrajectoryFit(recipe, build_trajectories(recipe, paths), run, torch.device(device)).run(until)
    except (RecipeChanged, NoTrajectories, OtherUsers, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error


def export_trajectories(recipe: TrajectoryRecipe, run: Path, out: Path, paths: Path, shown: Path | None) -> None:
    from models.export import ParityLost
    from models.radio.trajectories import NoTrajectories
    from models.training.learner import RecipeChanged
    from models.trajectory_export import NotServable, export_trajectory_run, write_trajectories

    try:
        export_trajectory_run(recipe, run, out, paths)
        if shown is not None:
            write_trajectories(recipe, paths, recipe.train_bands[0], SHOWN, shown)
    except (NotServable, ParityLost, RecipeChanged, NoTrajectories, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error

"""What `fingerpost-train fit` and `export` do with a recipe for trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.scadf_moe.recipe import TrajectoryRecipe

SHOWN = 60  # trajectories


def fit_trajectories(recipe: TrajectoryRecipe, run: Path, paths: Path, device: str, until: int | None) -> None:
    import torch

    from models.pipeline.learner import RecipeChanged
    from models.scadf_moe.data import OtherUsers, build_trajectories
    from models.scadf_moe.learner import TrajectoryFit
    from models.scadf_moe.sampling import NoTrajectories

    try:
        TrajectoryFit(recipe, build_trajectories(recipe, paths), run, torch.device(device)).run(until)
    except (RecipeChanged, NoTrajectories, OtherUsers, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error


def export_trajectories(recipe: TrajectoryRecipe, run: Path, out: Path, paths: Path, shown: Path | None) -> None:
    from models.mateformer.export import ParityLost
    from models.pipeline.learner import RecipeChanged
    from models.scadf_moe.export import NotServable, export_trajectory_run, write_trajectories
    from models.scadf_moe.sampling import NoTrajectories

    try:
        export_trajectory_run(recipe, run, out, paths)
        if shown is not None:
            write_trajectories(recipe, paths, recipe.train_bands[0], SHOWN, shown)
    except (NotServable, ParityLost, RecipeChanged, NoTrajectories, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error

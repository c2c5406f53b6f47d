"""Command-line arguments that the families share."""

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The YAML recipe.")]
ExperimentFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The YAML file of the experiment.")]
ArtifactFolder = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the artifact.")]
NewArtifactFolder = Annotated[Path, typer.Argument(help="Folder to write the artifact to.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder with the run's checkpoint and log.")]
PathTables = Annotated[Path, typer.Option(help="Folder of the path tables.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Until = Annotated[int | None, typer.Option(help="Stop at this step instead of the recipe's last.")]
RunsFolder = Annotated[Path, typer.Option(help="Folder of the runs of all experiments.")]
TablesFolder = Annotated[Path, typer.Option(help="Folder of the result tables.")]
Json = Annotated[bool, typer.Option("--json", help="Print the measurements as JSON instead of tables.")]

PATH_TABLES = Path("runs/paths")
RUNS = Path("runs/experiments")
TABLES = Path("benchmarks/results")

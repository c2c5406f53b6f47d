"""`fingerpost-train`: turns ray-traced cities into an artifact that the service loads."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_group

from models.artifact import MANIFEST_FILE
from models.cli_scenes import scenes
from models.errors import exit_in_one_line
from models.families import find_experiments, load_commands, read_family

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
app.add_typer(scenes, name="scenes")

# The family is known only after the recipe or artifact is read, so its own app parses all options, `--help` included.
PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}
Words = Annotated[list[str] | None, typer.Argument(help="Arguments and options; they depend on the family.")]


@app.command(context_settings=PASS_ON)
def fit(context: typer.Context, words: Words = None) -> None:
    """Train a model: fit RECIPE RUN. Run the command again to resume a stopped run."""
    _run(context, words or [], _find_yaml)


@app.command(context_settings=PASS_ON)
def report(context: typer.Context, words: Words = None) -> None:
    """Measure a checkpoint on held-out cells: report RECIPE RUN."""
    _run(context, words or [], _find_yaml)


@app.command(context_settings=PASS_ON)
def export(context: typer.Context, words: Words = None) -> None:
    """Turn a checkpoint into an artifact that the service loads: export RECIPE RUN ARTIFACT."""
    _run(context, words or [], _find_yaml)


@app.command(context_settings=PASS_ON)
def evaluate(context: typer.Context, words: Words = None) -> None:
    """Measure an artifact on held-out cells: evaluate ARTIFACT."""
    _run(context, words or [], lambda word: Path(word) if (Path(word) / MANIFEST_FILE).exists() else None)


@app.command(context_settings=PASS_ON)
def calibrate(context: typer.Context, words: Words = None) -> None:
    """Measure again how far an artifact's errors reach beyond its spreads: calibrate ARTIFACT."""
    _run(context, words or [], lambda word: Path(word) if (Path(word) / MANIFEST_FILE).exists() else None)


@app.command(context_settings=PASS_ON)
def quantise(context: typer.Context, words: Words = None) -> None:
    """Make an artifact faster for few users at a time: quantise ARTIFACT FINGERPRINTS..."""
    _run(context, words or [], lambda word: Path(word) if (Path(word) / MANIFEST_FILE).exists() else None)


@app.command(context_settings=PASS_ON)
def experiment(context: typer.Context, words: Words = None) -> None:
    """Train and measure the variants of an experiment: experiment NAME, or the path of a YAML file."""
    shipped, words = find_experiments(), words or []
    if name := next((word for word in words if word in shipped), None):
        words[words.index(name)] = str(shipped[name])
    _run(context, words, _find_yaml, hint=f"Experiments: {', '.join(sorted(shipped))}.")


@app.command()
def bound(
    cells: Annotated[list[str], typer.Argument(help="city:first-last, e.g. florence:0-5 florence-nlos:0-5")],
    recipe: Annotated[Path, typer.Option(exists=True, help="A recipe; its section radio is enough.")],
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    snr_db: Annotated[float, typer.Option(help="Mean signal-to-noise ratio of the CSI.")] = 20.0,
    timing: Annotated[
        str, typer.Option(help="Of the users' sampling-time offset: unknown, known, or its 1-sigma in nanoseconds.")
    ] = "unknown",
    gnss_m: Annotated[float | None, typer.Option(min=0.001, help="1-sigma error per axis of a GNSS fix.")] = None,
    level_db: Annotated[
        float | None,
        typer.Option(min=0, help="1-sigma to which paths' levels are known; 0: exactly. Default: unknown."),
    ] = None,
    references: Annotated[int, typer.Option(min=0, help="Leave out the first users, as many, of each cell.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, in metres, instead of a table.")] = False,
) -> None:
    """Print the position error bound of traced cells: what a perfect locator would reach with this radio."""
    import numpy as np

    from models.pipeline.recipe import read_radio
    from models.pipeline.tables import markdown_table
    from models.radio.bound import describe_bounds, parse_timing, position_error_bound
    from models.radio.cells import table_paths
    from models.radio.path_table import PathTable

    rows, found = [], []
    with exit_in_one_line():
        radio = read_radio(recipe)
        sigma = parse_timing(timing)
        for path in table_paths(cells, paths):
            table = PathTable.load(path)
            users = np.flatnonzero(table.reached)[references:]
            errors = position_error_bound(
                table,
                radio,
                table.site.yaw,
                snr_db,
                sigma == 0,
                gnss_m,
                users,
                timing_sigma=sigma,
                level_sigma_db=level_db,
            )
            found.append((errors, table.line_of_sight[users]))
            rows += describe_bounds(table.site.name, *found[-1])
    if len(found) > 1:
        rows += describe_bounds("all", *map(np.concatenate, zip(*found, strict=True)))
    if json:
        names = ("cell", "sight", "users", "mean", "median", "p90")
        bounds = [dict(zip(names, [*row[:2], *map(_read_number, row[2:])], strict=True)) for row in rows]
        typer.echo(json_format.dumps(bounds, indent=2))
    else:
        typer.echo(markdown_table(["cell", "sight", "users", "mean m", "median m", "90 % m"], rows))


def _read_number(cell: str) -> float | None:
    """The number in a cell of a table; None where there is none."""
    return None if cell == "-" else float(cell)


def _find_yaml(word: str) -> Path | None:
    return Path(word) if word.endswith((".yaml", ".yml")) else None


def _run(context: typer.Context, words: list[str], find: Callable[[str], Path | None], hint: str = "") -> None:
    """Runs the command of the family of the first word that ``find`` recognises."""
    path = next(filter(None, map(find, words)), None)
    if path is None:
        asked = "--help" in words
        usage = f"{context.command.help}\n\nAdd --help after the file to list its family's options. {hint}"
        if words and not asked:
            usage = f"{context.command.name}: there is no such file or name among: {' '.join(words)}\n\n{usage}"
        typer.echo(usage.rstrip(), err=not asked)
        raise typer.Exit(0 if asked else 2)
    with exit_in_one_line():
        family, command = read_family(path), str(context.info_name)
        group = get_group(load_commands(family))
        if command not in group.commands:
            context.fail(f"the family {family} has no command {command}; it has: {', '.join(group.commands)}")
        group([command, *words], prog_name="fingerpost-train")


def main() -> None:
    with exit_in_one_line():
        app()


if __name__ == "__main__":
    main()

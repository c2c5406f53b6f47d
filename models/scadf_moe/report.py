"""The tables and the figure of a SCADF-MoE experiment, from the results of its runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.pipeline.learner import LOG_FILE
from models.pipeline.tables import describe_overrides, markdown_table
from models.scadf_moe.evaluation import name_band
from models.scadf_moe.experiment import ERRORS_FILE, Run, ScadfMoEExperiment, read_result, with_path_features
from models.scadf_moe.recipe import PathFeatureKind, ScadfMoERecipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GEOMETRY = "path features alone, no model"
ORACLE = "true centroid for every point, no model"
WITHOUT_MODEL = {GEOMETRY: "geometry_mse_m2", ORACLE: "oracle_centroid_mse_m2"}  # rows, and where results have them
DESCRIPTIONS: dict[PathFeatureKind, str] = {
    "exact": "Exact path features of the strongest path, as in the paper. In line of sight they nearly give the"
    f" position away: it lies at that range in that direction (row *{GEOMETRY}*).",
    "measured": "Path features as a base station measures them: exact, plus normal errors of 2 degrees, 1 m and 1 dB"
    " (1 sigma).",
    "estimated": "Path features found in the same CSI by classical estimators. One antenna cannot measure the AoA; it"
    " is set to that of the direct path.",
}
PARTS = {"overall": "overall", "unseen_nlos": "unseen NLOS"}
UNSEEN_PARTS = {"nlos": "NLOS", "centroid": "centroid"}
LIMIT_M = 6.0

Results = dict[Run, dict[str, Any]]


class Column(NamedTuple):
    head: str
    part: str
    layout: str | None = None  # the mean over all layouts
    band: str = "all"
    all_unseen: bool = False  # of the trajectories without a trained point

    def takes(self, run: Run) -> bool:
        """Whether the run's results belong to this column."""
        tested = run.left_out is None or self.band in ("all", name_band(run.left_out))
        return self.layout in (None, run.layout) and tested


def write_tables(
    experiment: ScadfMoEExperiment,
    recipes: Mapping[Run, ScadfMoERecipe],
    runs: Mapping[PathFeatureKind, Path],
    command: str,
) -> str:
    """Markdown of all complete runs. ``runs`` has the folder of the runs with each kind of path features."""
    some = next(iter(recipes.values()))
    parts = [
        f"    {command}",
        f"Squared error in m², mean over seeds ± their standard deviation ({_seeds(recipes)});"
        f" {some.sampling.tested} test trajectories per layout and band, of {some.sampling.length} points within"
        f" {some.sampling.radius:g} m, each with at least one point that training never saw. Unseen NLOS: such points"
        " out of line of sight. All unseen: as many trajectories of which training saw no point."
        f" {_describe_bands(recipes)}; {some.optimiser.steps:,} steps of {some.batch} trajectories.",
    ]
    for kind, results in _read_results(recipes, runs).items():
        parts += [f"## {kind.capitalize()} path features", DESCRIPTIONS[kind]]
        parts += _tables(experiment, recipes, results)
    return "\n\n".join(parts) + "\n"


def list_results(recipes: Mapping[Run, ScadfMoERecipe], runs: Mapping[PathFeatureKind, Path]) -> list[dict[str, Any]]:
    """JSON-ready: the result of each complete run, as its folder keeps it, with its variant, layout and seed."""
    return [
        {"path_features": kind} | run._asdict() | result
        for kind, results in _read_results(recipes, runs).items()
        for run, result in results.items()
    ]


def _read_results(
    recipes: Mapping[Run, ScadfMoERecipe], runs: Mapping[PathFeatureKind, Path]
) -> dict[PathFeatureKind, Results]:
    done = {}
    for kind, folder in runs.items():
        results = {
            run: read_result(with_path_features(recipe, kind), run.folder(folder)) for run, recipe in recipes.items()
        }
        results = {run: result for run, result in results.items() if result is not None}
        if results:
            done[kind] = results
    return done


def _tables(experiment: ScadfMoEExperiment, recipes: Mapping[Run, ScadfMoERecipe], results: Results) -> Iterable[str]:
    layouts = list(dict.fromkeys(run.layout for run in results))
    bands = list(dict.fromkeys(name for result in results.values() for name in result["mse_m2"] if name != "all"))
    variants = [name for name in experiment.variants if any(run.variant == name for run in results)]

    def cell(variant: str, key: str, column: Column) -> str:
        """The spread over the seeds of which all runs are complete."""
        by_seed: dict[int, list[float]] = {}
        incomplete = set()
        for run in recipes:
            if run.variant != variant or not column.takes(run):
                continue
            result = results.get(run, {})
            tested = result.get("all_unseen", {}) if column.all_unseen else result
            parts = tested.get(key, {}).get(column.band, {})  # early results lack some
            if column.part in parts:
                by_seed.setdefault(run.seed, []).append(parts[column.part])
            else:
                incomplete.add(run.seed)
        return _spread([float(np.mean(values)) for seed, values in by_seed.items() if seed not in incomplete])

    def table(first: str, columns: list[Column]) -> tuple[list[str], list[list[str]]]:
        """The head, and the rows of all variants and of what needs no model."""
        rows = [[name, *(cell(name, "mse_m2", column) for column in columns)] for name in variants]
        rows += [[name, *(cell(variants[0], key, column) for column in columns)] for name, key in WITHOUT_MODEL.items()]
        return [first, *(column.head for column in columns)], rows

    by_layout = [
        column
        for layout in layouts
        for column in (
            *(Column(f"{layout}, {name}", part, layout) for part, name in PARTS.items()),
            Column(f"{layout}, all unseen", "overall", layout, all_unseen=True),
        )
    ]
    head, rows = table("layout", by_layout)
    sizes = {run.variant: f"{result['parameters']:,}" for run, result in results.items()}
    yield markdown_table([*head, "parameters"], [[*row, sizes.get(row[0], "0")] for row in rows])

    by_band = [Column(f"{band}, {name}", part, band=band) for band in bands for part, name in PARTS.items()]
    further = {"los": "LOS", "unseen": "unseen", "centroid": "centroid"}
    by_band += [Column(f"all bands, {name}", part) for part, name in further.items()]
    by_band += [Column(f"all unseen, {name}", part, all_unseen=True) for part, name in UNSEEN_PARTS.items()]
    yield markdown_table(*table("all layouts", by_band))

    changes = {name: describe_overrides(changed) for name, changed in experiment.variants.items()}
    yield "; ".join(f"{name}: {words}" for name, words in changes.items() if words) + "."
    if waiting := Counter(_name_case(run) for run in recipes if run not in results):
        yield f"Not done yet: {'; '.join(f'{case} ({runs} of the models)' for case, runs in waiting.items())}."


def _spread(values: list[float]) -> str:
    """The mean, and the standard deviation of more than one value."""
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def _seeds(recipes: Mapping[Run, ScadfMoERecipe]) -> str:
    return "seeds " + ", ".join(map(str, dict.fromkeys(run.seed for run in recipes)))


def _describe_bands(recipes: Mapping[Run, ScadfMoERecipe]) -> str:
    some = next(iter(recipes.values()))
    if left_out := list(dict.fromkeys(run.left_out for run in recipes if run.left_out is not None)):
        return f"Each of {_bands(left_out)} is tested by models that were trained at the others"
    return f"Trained at {_bands(some.train_bands)}, tested at {_bands(some.test_bands)}"


def _bands(bands: Iterable[float]) -> str:
    return ", ".join(f"{band / 1e9:g}" for band in bands) + " GHz"


def _name_case(run: Run) -> str:
    without = "" if run.left_out is None else f" without {name_band(run.left_out)}"
    return f"{run.layout}{without}, seed {run.seed}"


def plot_results(
    experiment: ScadfMoEExperiment,
    recipes: Mapping[Run, ScadfMoERecipe],
    runs: Mapping[PathFeatureKind, Path],
    path: Path,
) -> None:
    """One row per kind of path features: mean errors, CDFs in and out of line of sight, learning curves."""
    from matplotlib.figure import Figure

    done = _read_results(recipes, runs)
    height = max(4.2, 0.45 * len(experiment.variants))
    figure = Figure(figsize=(18, height * len(done)), layout="constrained")
    figure.suptitle(experiment.figure)
    for row, (kind, results) in zip(figure.subplots(len(done), 3, squeeze=False), done.items(), strict=True):
        variants = [name for name in experiment.variants if any(run.variant == name for run in results)]
        folders = {name: [run.folder(runs[kind]) for run in results if run.variant == name] for name in variants}
        _plot_means(row[0], {name: [r for run, r in results.items() if run.variant == name] for name in variants})
        _plot_cdfs(row[1], folders)
        _plot_learning_curves(row[2], folders)
        row[0].set_title(f"{kind} path features")
    figure.savefig(path, dpi=100)


def _plot_means(axes: Axes, results: Mapping[str, list[dict[str, Any]]]) -> None:
    place = np.arange(len(results))
    for offset, (part, label) in zip((-0.2, 0.2), PARTS.items(), strict=True):
        means = [np.mean([r["mse_m2"]["all"].get(part, np.nan) for r in some]) for some in results.values()]
        bars = axes.barh(place + offset, means, 0.4, label=label)
        axes.bar_label(bars, fmt="%.2f", fontsize="x-small")
    axes.set_yticks(place, list(results))
    axes.invert_yaxis()
    axes.set(xlabel="squared error [m²]")
    axes.legend(fontsize="small")


def _colour(folders: Mapping[str, list[Path]]) -> Iterable[tuple[str, list[Path], tuple[float, float, float]]]:
    """Each variant, its folders and a colour."""
    from matplotlib import colormaps

    colours = cycle(colormaps["tab10" if len(folders) <= 10 else "tab20"].colors)
    return ((name, some, next(colours)) for name, some in folders.items())


def _plot_cdfs(axes: Axes, folders: Mapping[str, list[Path]]) -> None:
    for name, some, colour in _colour(folders):
        metres, in_sight = _pool_errors(some)
        for part, style in ((in_sight, "-"), (~in_sight, ":")):
            errors = np.sort(metres[part])
            if len(errors):
                share = np.arange(1, len(errors) + 1) / len(errors)
                axes.plot(errors, share, style, color=colour, label=name if style == "-" else None)
    axes.set(xlabel="error [m]; solid: LOS, dotted: NLOS", ylabel="share of points", xlim=(0, LIMIT_M), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")


def _plot_learning_curves(axes: Axes, folders: Mapping[str, list[Path]]) -> None:
    for name, some, colour in _colour(folders):
        for folder in some:
            lines = [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]
            steps, squared = [line["step"] for line in lines], [line["mse_m2"] for line in lines]
            label = name if folder == some[0] else None
            axes.plot(steps, squared, color=colour, linewidth=0.8, label=label)
    axes.set(xlabel="step", ylabel="squared error in training [m²]", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _pool_errors(folders: Iterable[Path]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    metres, in_sight = [], []
    for folder in folders:
        with np.load(folder / ERRORS_FILE) as file:
            for name in file.files:
                (in_sight if name.endswith("_los") else metres).append(file[name].ravel())
    return np.concatenate(metres), np.concatenate(in_sight)

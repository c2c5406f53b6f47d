"""The table of the tracks experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.pipeline.tables import markdown_table
from models.tracks.evaluation import ALONE, NETWORK, SMOOTHER
from models.tracks.experiment import TracksExperiment
from models.tracks.recipe import TracksRecipe

METHODS = {ALONE: "each alone", SMOOTHER: "Kalman smoother", NETWORK: "track network"}


def write_table(
    experiment: TracksExperiment, recipe: TracksRecipe, results: Sequence[dict[str, Any]], command: str
) -> str:
    """Markdown: a table for each group of test cells. ``results``: one of each seed that is done."""
    done = ", ".join(map(str, experiment.seeds[: len(results)]))
    parts = [
        "# Tracks: several snapshots of one user",
        f"    {command}",
        f"Mean error in metres over the snapshots of a track, in brackets that of its newest; mean of the seeds "
        f"{done}. Test cells: {', '.join(recipe.cells.test)}; "
        f"{recipe.cells.references:,} fingerprints each. The smoother's motion is chosen on the validation cells, anew "
        "in each row; the network has one for all. `inside`: share in the network's 95 % ellipses, before calibration.",
    ]
    for group, by_condition in results[0]["tracks"].items():
        rows = []
        for label, by_count in by_condition.items():
            for count in by_count:
                entries = [one["tracks"][group][label][count] for one in results]
                figures = [_describe(entries, method) for method in METHODS]
                alone, smoother, network = (np.mean([one[name]["mean"] for one in entries]) for name in METHODS)
                inside = np.mean([one["inside"] for one in entries])
                gains = [f"{100 * (network / other - 1):+.0f} %" for other in (alone, smoother)]
                rows.append([label, count, *figures, *gains, f"{100 * inside:.0f} %"])
        head = [group, "snapshots", *METHODS.values(), "network to alone", "to the smoother", "inside"]
        parts.append(markdown_table(head, rows))
    return "\n\n".join(parts) + "\n"


def _describe(entries: Sequence[dict[str, Any]], method: str) -> str:
    mean, newest = (np.mean([one[method][name] for one in entries]) for name in ("mean", "newest"))
    return f"{mean:.2f} ({newest:.2f})"

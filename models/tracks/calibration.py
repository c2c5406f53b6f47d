"""How far tracks are off in streets that no network has learned: the levels of the manifest."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from models.artifact import Motion, Scales, TrackLevel
from models.errors import TrainerError
from models.radio.walks import SNAPSHOTS
from models.tracks.evaluation import measure_distances, run_network, time_tracks
from models.tracks.network import TrackFormer
from models.tracks.recipe import TracksRecipe
from models.tracks.training import WalkLocator, draw_seen, list_cells
from models.tracks.walked import Walked

ACCURACIES = (2.0, 6.0, None)  # metres
COUNTS = (1, 2, 5, SNAPSHOTS)


class TooFewWalks(TrainerError):
    """The walks of the validation cells are too few to say how far errors reach."""


def locate_validation(locator: WalkLocator) -> Walked:
    """The walks of the validation cells, located ``draws.calibrated`` times, by radios and fixes as in training."""
    recipe = locator.recipe
    return Walked.join(list(_draw_validation(locator, recipe)))


def _draw_validation(locator: WalkLocator, recipe: TracksRecipe) -> Iterator[Walked]:
    for number, cell in enumerate(list_cells(recipe, "validation")):
        for draw in range(recipe.draws.calibrated):
            rng = np.random.default_rng([number, draw, 1])  # training walks have two numbers
            yield locator.locate(cell, draw_seen(recipe, rng), rng)


def measure_levels(network: TrackFormer, motion: Motion, walked: Walked) -> tuple[TrackLevel, ...]:
    """The levels of walks that were located by radios and fixes of every kind. Raises `TooFewWalks`."""
    accuracy = walked.accuracy[:, 0]  # that of all snapshots of a walk
    levels, above = [], 0.0
    for bound in ACCURACIES:
        some = walked.take_walks((accuracy > above) & (accuracy <= (bound or math.inf)))
        levels += [_measure_level(network, motion, some.cut(count), bound) for count in COUNTS]
        above = bound or math.inf
    return tuple(levels)


def _measure_level(network: TrackFormer, motion: Motion, tracks: Walked, accuracy: float | None) -> TrackLevel:
    positions, covariances = run_network(network, tracks, time_tracks(tracks), motion)
    alone, together = (
        Scales.of_distances(measure_distances(at - tracks.truth, stated).ravel())
        for at, stated in ((tracks.estimates, tracks.covariances), (positions, covariances))
    )
    if alone is None or together is None:
        kind = "without fixes, or with worse ones" if accuracy is None else f"with fixes of up to {accuracy:g} m"
        raise TooFewWalks(f"too few walks of validation cells {kind} to calibrate on: raise draws.calibrated")
    return TrackLevel(accuracy=accuracy, snapshots=tracks.truth.shape[1], alone=alone, together=together)

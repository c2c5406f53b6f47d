"""Makes the trials of an experiment: trains what is missing, locates users, keeps their errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.alloc.experiment import AllocExperiment, Rivals
from models.alloc.location import draw_users, locate_by_knn
from models.alloc.recipe import RivalRecipe
from models.alloc.streets import Street, StreetOf, Survey, list_tables, load_street
from models.alloc.tasks import Users
from models.alloc.training import load_locator, load_weights, train
from models.alloc.trials import Training, Trial, list_trainings
from models.errors import TrainerError
from models.radio.cells import digest_tables
from models.radio.front_end import Radio
from models.radio.path_table import require_tables

TABLES_FILE = "tables.json"
_TRIALS_AT_ONCE = 4  # of one process: neighbours in the list share streets and models


def run_trials(
    trials: list[Trial],
    experiment: AllocExperiment,
    rivals: Rivals,
    paths: Path,
    runs: Path,
    jobs: int,
    device: torch.device,
) -> Iterator[Trial]:
    """Trains what is missing, ``jobs`` trainings at a time, and yields each trial once its errors are kept.

    A complete training or trial is not touched, a stopped training resumes. Raises `PathTablesMissing` and
    `OtherTables` before anything is trained, and `TooFewUsers`.
    """
    keep_tables([table for of in experiment.streets.values() for table in list_tables(of, paths)], paths, runs)
    fit = partial(fit_training, paths=paths, runs=runs, device=str(device))
    attempt = partial(make_trial, experiment=experiment, rivals=rivals, paths=paths, runs=runs, device=str(device))
    if jobs == 1:
        for wave in list_trainings(trials):
            for training in wave:
                fit(training)
        yield from map(attempt, trials)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for wave in list_trainings(trials):
            list(pool.map(fit, wave))
        yield from pool.map(attempt, trials, chunksize=_TRIALS_AT_ONCE)


class OtherTables(TrainerError):
    """A folder of trainings belongs to other path tables."""


def keep_tables(tables: Iterable[Path], paths: Path, runs: Path) -> None:
    """Notes the digests of path tables below ``paths`` in the folder of the trainings, which are of these tables only.

    Raises `PathTablesMissing` and `OtherTables`.
    """
    tables = list(dict.fromkeys(tables))
    require_tables(tables)
    file = runs / TABLES_FILE
    kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    found = {str(table.relative_to(paths)): digest_tables([table]) for table in tables}
    if changed := [name for name in found if kept.get(name, found[name]) != found[name]]:
        raise OtherTables(f"{runs} has trainings of another {changed[0]}; state another --runs, or remove that folder")
    if found.keys() - kept.keys():
        runs.mkdir(parents=True, exist_ok=True)
        partial_file = file.with_suffix(".partial")
        partial_file.write_text(json.dumps(kept | found, indent=2) + "\n")
        partial_file.rename(file)


def make_trial(
    trial: Trial, experiment: AllocExperiment, rivals: Rivals, paths: Path, runs: Path, device: str
) -> Trial:
    """Locates the users of a trial and keeps their errors, unless they are kept already."""
    _use_one_thread(device)
    if not trial.errors_file(runs).exists():
        of = experiment.streets[trial.street]
        street = _read_street(trial.street, of, rivals.radio, rivals.carrier_frequency, rivals.users, paths)
        survey = Survey.of(street, trial.condition.references)
        located = _locate(trial, rivals, survey, paths, runs, torch.device(device))
        _save_errors(located - street.users.positions, trial.errors_file(runs))
    return trial


def fit_training(training: Training, paths: Path, runs: Path, device: str) -> None:
    """Trains one recipe on this device; on the CPU with one thread."""
    _use_one_thread(device)
    start, before = None, training.before
    if before is not None:
        start = load_weights(before.recipe, _read_surveys(before.recipe, paths), runs / before.folder).state_dict()
    train(training.recipe, _read_surveys(training.recipe, paths), runs / training.folder, start, torch.device(device))


def read_errors(trial: Trial, runs: Path) -> NDArray[np.float32] | None:
    """Errors in metres, [users], or of several variants of a method [variants, users]; None before the trial."""
    file = trial.errors_file(runs)
    return np.load(file) if file.exists() else None


def _use_one_thread(device: str) -> None:
    if device == "cpu":  # as many processes as cores are faster than as many threads
        torch.set_num_threads(1)


def _locate(
    trial: Trial, rivals: Rivals, survey: Survey, paths: Path, runs: Path, device: torch.device
) -> NDArray[np.float32]:
    """Positions [u, 2] in metres, or of every variant of kNN [variants, u, 2]."""
    condition, users = trial.condition, draw_users(survey, trial.condition, trial.seed)
    if rivals.methods[trial.method].task == "fix":
        return users.coarse
    if rivals.methods[trial.method].task == "neighbours":
        return locate_by_knn(survey, users, condition.neighbours)
    for training in trial.trainings:
        learned, folder = _read_surveys(training.recipe, paths), runs / training.folder
        with torch.inference_mode():
            locate = load_locator(training.recipe, learned, folder, device)
            found = locate(survey, users, condition.neighbours, trial.seed)
        users = Users(users.csi, found, users.accuracy)  # a chain: what one finds is where the next looks
    return users.coarse


def _save_errors(offsets: NDArray[np.float32], file: Path) -> None:
    """A file that exists is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_file = file.with_suffix(".partial.npy")
    np.save(partial_file, np.linalg.norm(offsets, axis=-1).astype(np.float32))
    partial_file.rename(file)


def _read_surveys(recipe: RivalRecipe, paths: Path) -> list[Survey]:
    return [
        Survey.of(
            _read_street(name, of, recipe.radio, recipe.carrier_frequency, recipe.users, paths), recipe.references
        )
        for name, of in recipe.streets.items()
    ]


@cache
def _read_street(name: str, of: StreetOf, radio: Radio, carrier_frequency: float, users: int, paths: Path) -> Street:
    return load_street(name, of, radio, carrier_frequency, users, paths)

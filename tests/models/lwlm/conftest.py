"""Three streets of three base stations each, whose paths are known by geometry: a wall reflects every user's signal."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.lwlm.data import Links, load_links
from models.lwlm.recipe import LwlmRecipe
from models.radio.path_table import PathTable
from models.radio.siting import Site
from models.radio.tracing import table_path

SPEED_OF_LIGHT = 299_792_458.0
CARRIER = 3.5e9
STATIONS = [(0.0, 0.0, 15.0), (60.0, 5.0, 20.0), (25.0, 70.0, 10.0)]  # metres east, north, up
YAWS = [0.6, 2.4, -1.4]  # towards the users
WALL_NORTH = 90.0  # metres: the wall runs from west to east
USER_HEIGHT = 1.5

MakeTable = Callable[..., PathTable]


def make_table_of(
    bs: tuple[float, float, float],
    yaw: float,
    users: np.ndarray,
    hidden: np.ndarray,
    unreached: np.ndarray,
    **site: object,
) -> PathTable:
    """One station and its users [u, 3] in scene metres: an echo of the wall and, unless hidden, a direct path.

    Unreached users have neither.
    """
    offset = users - np.array(bs)
    image = np.column_stack([users[:, 0], 2 * WALL_NORTH - users[:, 1], users[:, 2]]) - np.array(bs)
    vectors, loss, owner, interactions = [], [], [], []
    for user in range(len(users)):
        if not unreached[user] and not hidden[user]:
            vectors.append(offset[user])
            loss.append(1.0)
            owner.append(user)
            interactions.append([0, 0])
        if not unreached[user]:
            vectors.append(image[user])
            loss.append(0.4)
            owner.append(user)
            interactions.append([1, 0])
    vector = np.array(vectors)
    length = np.linalg.norm(vector, axis=1)
    delay = length / SPEED_OF_LIGHT
    return PathTable(
        site=Site(
            city="etoile",
            seed=0,
            bs=bs,
            bs_height_above_ground=bs[2],
            yaw=yaw,
            area_centre=(30.0, 30.0),
            area_side=60.0,
            carrier_frequency=CARRIER,
            **site,
        ),
        users=offset.astype(np.float32),
        offsets=np.searchsorted(owner, np.arange(len(users) + 1)).astype(np.int64),
        gain=(np.array(loss) / length * np.exp(-2j * np.pi * CARRIER * delay)).astype(np.complex64),
        delay=delay.astype(np.float32),
        departure=np.column_stack([np.arccos(vector[:, 2] / length), np.arctan2(vector[:, 1], vector[:, 0])]).astype(
            np.float32
        ),
        arrival=np.zeros((len(vector), 2), np.float32),
        interactions=np.array(interactions, np.uint8),
    )


@pytest.fixture(scope="session")
def make_table() -> MakeTable:
    return make_table_of


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the path tables of etoile's seeds 0, 1 and 2. User 0 is reached by no station, user 1 by one only."""
    folder = tmp_path_factory.mktemp("streets")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        users = np.column_stack([rng.uniform(5, 55, (40, 2)), np.full(40, USER_HEIGHT)])
        for station, (bs, yaw) in enumerate(zip(STATIONS, YAWS, strict=True)):
            hidden, unreached = rng.uniform(size=40) < 0.3, rng.uniform(size=40) < 0.1
            hidden[1], unreached[:2] = False, [True, station != 2]
            table = make_table_of(bs, yaw, users, hidden, unreached, station=station)
            table.save(table_path(folder, "etoile", seed, station))
    return folder


@pytest.fixture(scope="session")
def links(streets: Path) -> Links:
    return load_links(["etoile:0"], 3, streets)


@pytest.fixture(scope="session")
def lwlm_recipe() -> LwlmRecipe:
    """A recipe like the shipped one, in a size that a test can train."""
    optimiser = {
        "name": "adamw",
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
        "gradient_clip": 1.0,
        "schedule": "cosine",
        "warmup_steps": 1,
        "steps": 2,
        "loss": "distance",
        "average": 0.9,
    }
    snapshots = {"antennas": [8], "subcarriers": [64, 72], "bandwidths": [20e6, 50e6]}
    return LwlmRecipe.model_validate(
        {
            "family": "lwlm",
            "name": "small",
            "version": "1",
            "seed": 7,
            "radio": {"array": {"rows": 1, "columns": 8}, "subcarriers": 72, "bandwidth": 50e6},
            "streets": {"train": ["etoile:0"], "validation": ["etoile:1"], "test": ["etoile:2"], "stations": 3},
            "carrier_frequency": [3e9, 4e9],
            "configurations": {"antennas": [8], "subcarriers": [64, 72], "bandwidth": [10e6, 50e6], "snr_db": [10, 30]},
            "model": {
                "width": 16,
                "layers": 1,
                "heads": 2,
                "hidden": 32,
                "patch_antennas": 4,
                "patch_subcarriers": 8,
                "slices": [6, 6, 4],
                "decoder_width": 16,
                "decoder_layers": 1,
            },
            "objectives": {"dti": 20, "sf_mcm": 10, "picl": 1, "batch": 8, "turn": 0.5},
            "optimiser": optimiser,
            "decoding": {"snapshots": snapshots, "hidden": 16, "batch": 8, "optimiser": optimiser},
            "tested": snapshots,
        }
    )


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.artifact import BadManifest, MateformerManifest, Motion, Scales, TrackLevel, TracksContract, load_artifact
from tests.service.tiny_artifact import write_tiny_artifact

ONE = Scales(factors={95: 2.0})


def level(accuracy: float | None, snapshots: int) -> TrackLevel:
    return TrackLevel(accuracy=accuracy, snapshots=snapshots, alone=ONE, together=ONE)


def contract(*levels: TrackLevel, snapshots: int = 5) -> TracksContract:
    return TracksContract(
        snapshots=snapshots, stride=3.0, motion=Motion(speed=1.0, wander=1.0, trust=1.0), levels=levels
    )


LEVELS = [level(accuracy, snapshots) for accuracy in (2.0, None) for snapshots in (1, 5)]


@pytest.mark.parametrize(
    ("accuracy", "snapshots", "number"),
    [(0.5, 1, 0), (2.0, 5, 1), (1.0, 2, 1), (2.1, 1, 2), (math.inf, 1, 2), (math.inf, 5, 3)],
)
def test_a_track_has_the_first_level_whose_bounds_hold_it(accuracy: float, snapshots: int, number: int) -> None:
    found = contract(*LEVELS).level(accuracy, snapshots)
    assert (found.accuracy, found.snapshots) == (LEVELS[number].accuracy, LEVELS[number].snapshots)


@pytest.mark.parametrize(
    "levels",
    [
        [level(2.0, 5)],  # no level for tracks without fixes
        [level(None, 1)],  # nor for the longest
        [level(None, 5), level(2.0, 5)],
        [level(6.0, 5), level(2.0, 5), level(None, 5)],
        [level(None, 5), level(None, 1)],
        [level(2.0, 1), level(None, 5)],
    ],
)
def test_levels_that_hold_not_every_track_are_refused(levels: list[TrackLevel]) -> None:
    with pytest.raises(ValidationError, match="must rise"):
        contract(*levels)


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["graphs"].pop(name)


def _blind(manifest: dict[str, Any]) -> None:
    outputs = manifest["graphs"]["query"]["outputs"]
    manifest["graphs"]["query"]["outputs"] = [one for one in outputs if one["name"] != "streams"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_without("track"), "'track' and the field 'tracks' need each other"),
        (lambda manifest: manifest.pop("tracks"), "'track' and the field 'tracks' need each other"),
        (_blind, "'track' takes streams, which 'query' must return"),
    ],
)
def test_the_graph_and_what_it_needs_belong_together(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    write_tiny_artifact(tmp_path, tile_pitch=2.0, tracks=contract(*LEVELS))
    assert load_artifact(tmp_path, MateformerManifest).manifest.tracks == contract(*LEVELS)
    manifest = json.loads((tmp_path / "artifact.json").read_text())
    change(manifest)
    (tmp_path / "artifact.json").write_text(json.dumps(manifest))
    with pytest.raises(BadManifest, match=complaint):
        load_artifact(tmp_path)

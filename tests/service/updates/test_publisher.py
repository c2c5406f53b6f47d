"""Operators' changes on their way to versions: a network that takes no time in made-up cells, a real directory."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import MateformerArtifact
from reference_db import (
    Contents,
    DirectoryStore,
    Fingerprints,
    Manifest,
    Origin,
    RequestKey,
    Update,
    append_fingerprints,
    correct_cell,
    delete_fingerprints,
    forget_fingerprints,
    read_contents,
    replace_cell,
    roll_back,
)
from service import errors
from service.cells.registry import ServedCells
from service.inference.engine import start_engine
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.updates.publisher import Conditions, Published, Publisher
from tests.damage import damage
from tests.service.plane_cell import fingerprints_at as measured_at
from tests.service.plane_cell import make_cell, street
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.tiny_cell import ORIGIN

CELL = make_cell("plane")
STREET = street(250, 1)
ANYWAY = Conditions()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> MateformerArtifact:
    """Its answer is the middle of the 8 fingerprints around the first guess."""
    return write_tiny_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
def publisher(artifact: MateformerArtifact, store: DirectoryStore) -> Iterator[Publisher]:
    settings, metrics = Settings(inference_threads=1, calibration_samples=20, calibration_sigmas_m=(1.0,)), Metrics()
    served = ServedCells(store, start_engine(artifact, settings, metrics), settings, metrics)
    publisher = Publisher(store, served, settings, metrics)
    yield publisher
    publisher.close()
    served.close()


def fingerprints_at(positions: np.ndarray) -> Fingerprints:
    """Their first number is positive, which the network wants."""
    measured = measured_at(positions)
    return replace(measured, csi=measured.csi * np.exp(-1j * np.angle(measured.csi[:, :1, :1])).astype(np.complex64))


async def replace_all(publisher: Publisher, fingerprints: Fingerprints, conditions: Conditions = ANYWAY) -> Published:
    def change(before: Manifest | None) -> Update:
        return replace_cell(before, CELL, fingerprints, ORIGIN)

    return await publisher.replace("plane", change, conditions, ORIGIN)


async def append(
    publisher: Publisher, fingerprints: Fingerprints, conditions: Conditions = ANYWAY, origin: Origin = ORIGIN
) -> Published:
    def change(before: Contents | None) -> Update:
        assert before is not None
        return append_fingerprints(before, fingerprints, origin)

    return await publisher.publish("plane", change, conditions, origin)


def moved(fingerprints: Fingerprints, metres: float) -> Fingerprints:
    return replace(fingerprints, positions=fingerprints.positions + np.float32(metres))


def quality(published: Published, name: str) -> Any:
    return published.manifest.quality[name]


@pytest.mark.anyio
async def test_a_version_says_what_was_measured_of_it(publisher: Publisher, store: DirectoryStore) -> None:
    first = await replace_all(publisher, fingerprints_at(STREET))
    assert store.current("plane") == first.manifest
    (calibration,) = quality(first, "calibration").values()
    assert calibration["fingerprints"] == len(STREET)
    assert quality(first, "canary")["samples"] == 200
    west, south, east, north = quality(first, "survey")["extent"]
    assert (west, south) == pytest.approx(STREET.min(axis=0))
    assert (east, north) == pytest.approx(STREET.max(axis=0))


def calibration_of(published: Published) -> Any:
    (calibration,) = quality(published, "calibration").values()
    return calibration


@pytest.mark.anyio
async def test_a_calibration_that_still_holds_is_carried_over_and_names_its_version(publisher: Publisher) -> None:
    first = await replace_all(publisher, fingerprints_at(STREET))
    second = await append(publisher, fingerprints_at(street(20, 2)))
    assert (calibration_of(first)["version"], calibration_of(first)["changed"]) == (1, 0)
    assert calibration_of(second) == calibration_of(first) | {"changed": 20}
    third = await append(publisher, fingerprints_at(street(200, 3)))  # the cell has grown by far more than a fifth
    assert (calibration_of(third)["version"], calibration_of(third)["fingerprints"]) == (3, len(STREET) + 220)


@pytest.mark.anyio
async def test_a_complete_replacement_of_the_fingerprints_is_calibrated_anew(publisher: Publisher) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    replaced = await replace_all(publisher, fingerprints_at(street(len(STREET), 3)))
    assert calibration_of(replaced)["version"] == 2


@pytest.mark.anyio
async def test_the_same_fingerprints_sent_again_keep_their_calibration(publisher: Publisher) -> None:
    first = await replace_all(publisher, fingerprints_at(STREET))
    again = await replace_all(publisher, fingerprints_at(STREET))
    assert calibration_of(again) == calibration_of(first)


@pytest.mark.anyio
async def test_small_changes_add_up_until_a_calibration_expires(publisher: Publisher) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    versions = [await append(publisher, fingerprints_at(street(20, seed))) for seed in (2, 3, 4)]
    facts = [(one["version"], one["changed"]) for one in map(calibration_of, versions)]
    assert facts == [(1, 20), (1, 40), (4, 0)]  # 60 of 250 are more than a fifth


@pytest.mark.anyio
async def test_force_calibrates_anew(publisher: Publisher) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    forced = await append(publisher, fingerprints_at(street(5, 2)), Conditions(force=True))
    assert calibration_of(forced)["version"] == 2


@pytest.mark.anyio
async def test_another_description_of_the_same_fingerprints_is_calibrated_anew(publisher: Publisher) -> None:
    await replace_all(publisher, fingerprints_at(STREET))

    def change(before: Manifest | None) -> Update:
        return replace_cell(before, CELL.model_copy(update={"bandwidth": 20e6}), fingerprints_at(STREET), ORIGIN)

    described = await publisher.replace("plane", change, ANYWAY, ORIGIN)
    assert calibration_of(described)["version"] == 2


@pytest.mark.anyio
async def test_a_calibration_that_does_not_say_its_version_is_measured_anew(
    publisher: Publisher, store: DirectoryStore
) -> None:
    """As written before calibrations named their version."""
    first = await replace_all(publisher, fingerprints_at(STREET))
    (digest,) = quality(first, "calibration")
    old = {name: value for name, value in calibration_of(first).items() if name not in ("version", "changed")}
    manifest = first.manifest.with_quality({"calibration": {digest: old}}).with_fields(
        number=2, parent=first.manifest.digest
    )
    store.publish(manifest, (), first.manifest.digest)
    third = await append(publisher, fingerprints_at(street(5, 2)))
    assert calibration_of(third)["version"] == 3


@pytest.mark.anyio
async def test_a_survey_shifted_as_a_whole_is_refused_unless_forced(
    publisher: Publisher, store: DirectoryStore
) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    before = store.current("plane")
    shifted = moved(fingerprints_at(street(60, 2)), 10)
    with pytest.raises(
        errors.VersionRefused, match=r"from where the current version locates them.*; --force or force=true"
    ):
        await append(publisher, shifted)
    with pytest.raises(errors.VersionRefused, match=r"; --force or force=true publishes it"):
        await replace_all(publisher, moved(fingerprints_at(street(250, 3)), 10))
    assert store.current("plane") == before
    forced = await append(publisher, shifted, Conditions(force=True))
    assert forced.manifest.fingerprints == len(STREET) + 60


@pytest.mark.anyio
async def test_labels_that_fit_no_signal_are_refused(publisher: Publisher) -> None:
    good = fingerprints_at(STREET)
    await replace_all(publisher, good)
    shuffled = replace(good, positions=np.random.default_rng(0).permutation(good.positions))
    with pytest.raises(errors.VersionRefused):
        await replace_all(publisher, shuffled)


@pytest.mark.anyio
async def test_from_a_version_that_was_forced_one_goes_back_without_force(
    publisher: Publisher, store: DirectoryStore
) -> None:
    good = (await replace_all(publisher, fingerprints_at(STREET))).manifest
    await replace_all(publisher, moved(fingerprints_at(street(250, 3)), 10), Conditions(force=True))

    def change(before: Manifest | None) -> Update:
        assert before is not None
        return roll_back(before, read_contents(store, good), ORIGIN)

    back = (await publisher.replace("plane", change, ANYWAY, ORIGIN)).manifest
    assert (back.number, back.segments) == (3, good.segments)
    assert back.quality["calibration"] == good.quality["calibration"]


@pytest.mark.anyio
async def test_a_version_removed_while_it_is_restored_is_not_found(publisher: Publisher, store: DirectoryStore) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    current = (await replace_all(publisher, fingerprints_at(street(250, 3)))).manifest

    def change(before: Manifest | None) -> Update:
        assert before is not None
        update = roll_back(before, read_contents(store, store.manifest("plane", 1)), ORIGIN)
        store.remove_versions("plane", [1])
        return update

    with pytest.raises(errors.VersionNotFound):
        await publisher.replace("plane", change, ANYWAY, ORIGIN)
    assert store.current("plane") == current


@pytest.mark.anyio
async def test_a_change_begins_again_if_its_version_is_removed_while_it_is_read(
    publisher: Publisher, store: DirectoryStore
) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    begun = []

    def change(before: Contents | None) -> Update:
        assert before is not None
        begun.append(before.manifest.number)
        if len(begun) == 1:  # another process forgets a fingerprint
            others = forget_fingerprints(before, np.arange(len(before)) == 0, [1], ORIGIN)
            store.publish(others.manifest, others.segments, before.manifest.digest, others.without)
            read_contents(store, before.manifest)
        return append_fingerprints(before, fingerprints_at(street(10, 3)), ORIGIN)

    published = await publisher.publish("plane", change, ANYWAY, ORIGIN)
    assert begun == [1, 2]
    assert (published.manifest.number, published.manifest.fingerprints) == (3, len(STREET) + 9)


@pytest.mark.anyio
async def test_fingerprints_that_stay_on_earth_are_no_shifted_survey(
    publisher: Publisher, store: DirectoryStore
) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    moved_cell = CELL.model_copy(update={"latitude_deg": CELL.latitude_deg + 1e-4})  # 11 m

    def change(before: Contents | None) -> Update:
        assert before is not None
        return correct_cell(before, moved_cell, ORIGIN, stay=True)

    corrected = await publisher.publish("plane", change, ANYWAY, ORIGIN)
    assert corrected.manifest.cell == moved_cell
    assert quality(corrected, "canary")["shift"] is None
    assert calibration_of(corrected)["version"] == corrected.manifest.number


@pytest.mark.anyio
async def test_of_two_writers_who_saw_the_same_version_one_is_told(publisher: Publisher, store: DirectoryStore) -> None:
    first = await replace_all(publisher, fingerprints_at(STREET))
    seen = Conditions(if_match=first.manifest.version)
    parts = [fingerprints_at(street(10, seed)) for seed in (2, 3)]
    outcomes = await asyncio.gather(*(append(publisher, part, seen) for part in parts), return_exceptions=True)
    assert sorted(type(one) for one in outcomes if isinstance(one, Exception)) == [errors.PreconditionFailed]
    current = store.current("plane")
    assert current is not None
    assert (current.number, current.fingerprints) == (2, len(STREET) + 10)


@pytest.mark.anyio
async def test_writers_without_conditions_lose_nothing(publisher: Publisher, store: DirectoryStore) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    parts = [fingerprints_at(street(10, seed)) for seed in (2, 3, 4)]
    await asyncio.gather(*(append(publisher, part) for part in parts))
    current = store.current("plane")
    assert current is not None
    assert (current.number, current.fingerprints) == (4, len(STREET) + 30)


@pytest.mark.anyio
async def test_somebody_elses_version_in_between_only_means_once_more(
    publisher: Publisher, store: DirectoryStore
) -> None:
    """Another process, whose turns are not ours."""
    await replace_all(publisher, fingerprints_at(STREET))
    parts = iter([fingerprints_at(street(10, 2))])

    def change(before: Contents | None) -> Update:
        assert before is not None
        for part in parts:
            others = append_fingerprints(before, part, ORIGIN)
            store.publish(others.manifest, others.segments, before.manifest.digest)
        return append_fingerprints(before, fingerprints_at(street(10, 3)), ORIGIN)

    published = await publisher.publish("plane", change, ANYWAY, ORIGIN)
    assert (published.manifest.number, published.manifest.fingerprints) == (3, len(STREET) + 20)


@pytest.mark.anyio
async def test_a_request_that_comes_twice_is_done_once(publisher: Publisher, store: DirectoryStore) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    key, body = (sha256(word).hexdigest() for word in (b"key", b"body"))
    origin = replace(ORIGIN, request=RequestKey(key=key, body=body))
    part = fingerprints_at(street(10, 2))
    first = await append(publisher, part, origin=origin)
    await append(publisher, fingerprints_at(street(10, 3)))
    again = await append(publisher, part, origin=origin)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.manifest == first.manifest
    assert store.numbers("plane") == [1, 2, 3]
    other = replace(ORIGIN, request=RequestKey(key=key, body=sha256(b"other").hexdigest()))
    with pytest.raises(errors.IdempotencyKeyReused):
        await append(publisher, fingerprints_at(street(10, 4)), origin=other)


@pytest.mark.anyio
async def test_a_cell_begins_empty_and_small_but_does_not_become_so(publisher: Publisher) -> None:
    def create(before: Manifest | None) -> Update:
        return replace_cell(before, CELL, None, ORIGIN)

    await publisher.replace("plane", create, Conditions(if_none_match=True), ORIGIN)
    await append(publisher, fingerprints_at(STREET[:5]))
    whole = await append(publisher, fingerprints_at(STREET[5:]))
    assert "calibration" in whole.manifest.quality

    def delete(before: Contents | None) -> Update:
        assert before is not None
        return delete_fingerprints(before, np.arange(len(before)) > 5, ORIGIN)

    with pytest.raises(errors.CellTooSmall):
        await publisher.publish("plane", delete, ANYWAY, ORIGIN)
    with pytest.raises(errors.PreconditionFailed):
        await publisher.replace("plane", create, Conditions(if_none_match=True), ORIGIN)
    emptied = await publisher.publish("plane", delete, Conditions(force=True), ORIGIN)
    assert emptied.manifest.fingerprints == 6


@pytest.mark.anyio
async def test_a_damaged_version_can_be_replaced_but_not_extended(
    publisher: Publisher, store: DirectoryStore, tmp_path: Path
) -> None:
    await replace_all(publisher, fingerprints_at(STREET))
    (file,) = tmp_path.rglob("*.safetensors")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    damage(file, damaged)
    with pytest.raises(errors.CellUnreadable):
        await append(publisher, fingerprints_at(street(10, 2)))
    await replace_all(publisher, fingerprints_at(STREET))
    manifest = store.current("plane")
    assert manifest is not None
    assert len(read_contents(store, manifest)) == len(STREET)


@pytest.mark.anyio
async def test_what_is_wrong_with_a_fingerprint_reaches_the_operator(publisher: Publisher) -> None:
    good = fingerprints_at(STREET)
    await replace_all(publisher, good)
    with pytest.raises(errors.FingerprintRefused, match="/fingerprints/0: the cell already has this fingerprint"):
        await append(publisher, good)
    sigmas = np.where(np.arange(len(STREET)) == 7, -1, 0.05).astype(np.float32)
    with pytest.raises(errors.FingerprintRefused, match="/fingerprints/7: sigma"):
        await replace_all(publisher, replace(good, sigmas=sigmas))
    assert await publisher.read(partial(len, "abc")) == 3

"""Frames of the shipped model in a synthetic cell."""

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from models.artifact import MateformerManifest, load_artifact
from reference_db import CellVersion
from service.errors import InferenceFailed
from service.inference.bound_graph import BoundGraph
from service.inference.channels import Channels
from service.inference.estimator import Estimator
from service.inference.frame_cache import FrameCache, as_known
from service.inference.mateformer_session import MateformerSession
from service.inference.tiles import Neighbourhood, Tiles
from service.inference.user import User
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch
from tests.service.plane_cell import fingerprints_at, make_cell, street, users_at
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS, write_tiny_artifact
from tests.service.tiny_cell import cell_of, positive_csi, version_of

CELL = make_cell("plane")
USERS = 12


@pytest.fixture(scope="module")
def session(artifact_directory: Path) -> Iterator[MateformerSession]:
    session = MateformerSession(load_artifact(artifact_directory, MateformerManifest), 1, ["CPUExecutionProvider"])
    yield session
    session.close()


@pytest.fixture(scope="module")
def version() -> CellVersion:
    return version_of(CELL, fingerprints_at(street(300, 1)))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def count_described(session: MateformerSession, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many snapshots each run of `describe` of a session takes, from now on."""
    counts: list[int] = []
    run = session.run

    def count(graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if graph == "describe":
            counts.append(len(feeds["csi"]))
        return run(graph, feeds)

    monkeypatch.setattr(session, "run", count)
    return counts


def lookups(metrics: Metrics, result: str) -> float:
    return metrics.registry.get_sample_value("fingerpost_frame_cache_lookups_total", {"result": result}) or 0.0


def neighbourhoods(version: CellVersion, rows: range, n: int) -> list[Neighbourhood]:
    return list(Tiles(0.0, Channels()).neighbourhoods(version, version.positions[rows], n))


def users_of(version: CellVersion, count: int) -> list[User]:
    places = street(count, 5)
    csi = users_at(places).view(np.float32).reshape(count, 32, 32, 2)
    coarse = places + np.random.default_rng(2).normal(0, 1, places.shape).astype(np.float32)
    accuracy = np.where(np.arange(count) % 3 == 0, np.nan, 1.0)
    coarse[::3] = np.nan
    return [User(version, *user) for user in zip(csi, coarse, accuracy.tolist(), strict=True)]


def located(session: MateformerSession, estimator: Estimator, users: list[User]) -> np.ndarray:
    estimates = session.submit(estimator.locate, users, Stopwatch()).result()
    return np.stack([one.position for one in estimates])


def test_frames_give_the_full_graphs_answer(session: MateformerSession, version: CellVersion, metrics: Metrics) -> None:
    users = users_of(version, USERS)
    estimator = Estimator(session, 64, 2**20, metrics)
    fresh, cached = (located(session, estimator, users) for _ in range(2))
    csi, coarse, accuracy = (np.stack([user[i] for user in users]).astype(np.float32) for i in (1, 2, 3))
    full = estimator.locate_in_background(version, csi, coarse[:, None], accuracy[:, None], None).positions[:, 0]
    np.testing.assert_allclose(fresh, full, atol=2e-3)  # keys and values are kept in half precision
    np.testing.assert_allclose(cached, fresh, atol=1e-4)
    assert lookups(metrics, "miss") <= USERS
    assert lookups(metrics, "hit") == lookups(metrics, "miss")


def test_frames_whose_fingerprints_are_described_already_give_the_same_answers(
    session: MateformerSession, version: CellVersion, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = users_of(version, USERS)
    room = 4 * session.manifest.features * 4 * len(version)  # for all features, and for few frames
    estimator = Estimator(session, USERS, room, metrics)
    fresh = located(session, estimator, users)
    assert 0 < estimator.feature_bytes <= room / 4
    counts = count_described(session, monkeypatch)
    estimator = Estimator(session, 2, room, metrics)
    alone = [located(session, estimator, [user])[0] for user in users]
    np.testing.assert_allclose(alone, fresh, atol=1e-3)
    assert sum(counts) <= len(users) + len(version)  # no fingerprint twice


def test_features_and_frames_together_keep_to_the_memory_for_frames(
    session: MateformerSession, version: CellVersion, metrics: Metrics
) -> None:
    room = 40 * session.frame_bytes
    estimator = Estimator(session, 1, room, metrics)
    assert 0.9 * room <= estimator.frame_pool_bytes + room / 4 <= room
    for user in users_of(version, USERS):
        located(session, estimator, [user])
    assert 0 < estimator.feature_bytes <= room / 4


def test_a_cell_too_small_for_frames_is_described_once(
    session: MateformerSession, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = version_of(CELL, fingerprints_at(street(20, 1)))
    users = users_of(small, 4)
    estimator = Estimator(session, 1, 2**22, metrics)
    fresh = [located(session, estimator, [user])[0] for user in users]
    counts = count_described(session, monkeypatch)
    again = [located(session, estimator, [user])[0] for user in users]
    assert counts == [1] * len(users)
    np.testing.assert_allclose(again, fresh, atol=1e-4)


def test_a_batch_gives_each_user_the_same_answer_as_alone(
    session: MateformerSession, version: CellVersion, metrics: Metrics
) -> None:
    users = users_of(version, USERS)
    users += users[:5]  # users who share tiles with others
    estimator = Estimator(session, 64, 2**20, metrics)
    together = located(session, estimator, users)
    alone = [located(session, estimator, [user])[0] for user in users]
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_pool_bytes_is_the_memory_allocated_for_frames(session: MateformerSession, metrics: Metrics) -> None:
    assert FrameCache(session, 20 * session.frame_bytes, 4, metrics).pool_bytes == 20 * session.frame_bytes


def test_the_least_recently_used_frame_is_evicted(
    session: MateformerSession, version: CellVersion, metrics: Metrics
) -> None:
    n = session.manifest.neighbourhood_size
    frames = FrameCache(session, 0, 2, metrics)  # no budget: room for one dispatch and one background frame
    a, b, c, d = neighbourhoods(version, range(4), n)
    session.submit(frames.slots, [a, b]).result()
    session.submit(frames.slots, [c]).result()
    session.submit(frames.slots, [a]).result()
    slots = session.submit(frames.slots, [d, a]).result()  # b is the least recently used
    assert slots[a.key] != slots[d.key]
    assert (lookups(metrics, "hit"), lookups(metrics, "miss")) == (2, 4)
    session.submit(frames.slots, [a, c]).result()
    session.submit(frames.slots, [d]).result()
    assert (lookups(metrics, "hit"), lookups(metrics, "miss")) == (5, 4)
    session.submit(frames.slots, [b]).result()
    assert lookups(metrics, "miss") == 5


def test_bytes_held_are_those_of_the_frames(session: MateformerSession, version: CellVersion, metrics: Metrics) -> None:
    n = session.manifest.neighbourhood_size
    frames = FrameCache(session, 0, 3, metrics)
    session.submit(frames.slots, neighbourhoods(version, range(2), n)).result()
    one = session.frame_bytes
    assert one > 0
    assert frames.held_bytes == 2 * one
    session.submit(frames.slots, neighbourhoods(version, range(10, 14), n)).result()
    assert frames.held_bytes == 4 * one


def test_a_frame_encoded_in_the_background_is_found(
    session: MateformerSession, version: CellVersion, metrics: Metrics
) -> None:
    frames = FrameCache(session, 0, 2, metrics)
    a, b = neighbourhoods(version, range(2), session.manifest.neighbourhood_size)
    slot = session.submit(frames.reserve).result()
    known = as_known([a], session.describe_in_background)
    session.run_in_background("frame", {**known, "slots": np.array([slot])})
    session.submit(frames.slots, [b]).result()  # while the slot is reserved
    session.submit(frames.admit, a.key, slot).result()
    assert session.submit(frames.slots, [a]).result() == {a.key: slot}
    assert lookups(metrics, "hit") == 1


def test_a_neighbourhood_unchanged_by_a_new_version_keeps_its_frame(
    session: MateformerSession, version: CellVersion, metrics: Metrics
) -> None:
    n = session.manifest.neighbourhood_size
    far_away = fingerprints_at(np.array([[300.0, 200.0]], np.float32))
    grown = version_of(CELL, fingerprints_at(street(300, 1)), far_away)
    frames = FrameCache(session, 0, 4, metrics)
    (before,), (after,) = (neighbourhoods(some, range(1), n) for some in (version, grown))
    slots = session.submit(frames.slots, [before]).result()
    assert session.submit(frames.slots, [after]).result() == slots
    assert lookups(metrics, "miss") == 1


def test_two_new_versions_that_are_warmed_at_once_leave_room_for_a_dispatch(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = write_tiny_artifact(tmp_path, tile_pitch=2.0)
    version = cell_of(np.stack([np.arange(60), np.zeros(60)], axis=1).astype(np.float32))
    csi = positive_csi(1)[0].view(np.float32).reshape(ANTENNAS, SUBCARRIERS, 2)
    users = [User(version, csi, np.array([x, 0], np.float32), 0.1) for x in (20, 30)]
    free, reserved, both = threading.Event(), threading.Semaphore(0), threading.Event()
    with closing(MateformerSession(artifact, 1, ["CPUExecutionProvider"])) as session:
        estimator = Estimator(session, len(users), 0, metrics)  # no budget: room for one dispatch and one frame

        describe_or_encode = session.run_in_background

        def wait_with_a_slot(graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            if graph == "describe":
                return describe_or_encode(graph, feeds)
            if not reserved.acquire(blocking=False):
                both.set()
            free.wait()
            return {}

        monkeypatch.setattr(session, "run_in_background", wait_with_a_slot)
        reserved.release()
        with ThreadPoolExecutor(2) as replacers:
            warmed = [
                replacers.submit(estimator.ahead.warm_tiles, version, [np.array(at)]) for at in ([2.0, 0], [50.0, 0])
            ]
            try:
                assert not both.wait(0.5), "two slots are reserved at once"
                assert np.isfinite(located(session, estimator, users)).all()
            finally:
                free.set()
        assert [one.result() for one in warmed] == [1, 1]


def ahead(metrics: Metrics, event: str) -> float:
    return metrics.registry.get_sample_value("fingerpost_frames_ahead_total", {"event": event}) or 0.0


def grid() -> CellVersion:
    """A fingerprint every 2 m in a square of 40 m."""
    east, north = np.meshgrid(np.arange(0, 41, 2.0), np.arange(0, 41, 2.0))
    return cell_of(np.stack([east.ravel(), north.ravel()], axis=1).astype(np.float32))


def user_at(version: CellVersion, east: float, north: float) -> User:
    csi = positive_csi(1)[0].view(np.float32).reshape(ANTENNAS, SUBCARRIERS, 2)
    return User(version, csi, np.array([east, north], np.float32), 0.1)


def test_a_user_who_walks_finds_the_frames_encoded_ahead(tmp_path: Path, metrics: Metrics) -> None:
    version = grid()
    with closing(
        MateformerSession(write_tiny_artifact(tmp_path, tile_pitch=2.0), 1, ["CPUExecutionProvider"])
    ) as session:
        estimator = Estimator(session, 1, 200 * session.frame_bytes, metrics)
        assert not estimator.ahead.may_encode
        located(session, estimator, [user_at(version, 11, 21)])
        misses = lookups(metrics, "miss")
        for east in (13, 15, 17):
            while estimator.ahead.encode_next():
                pass
            assert not estimator.ahead.may_encode
            located(session, estimator, [user_at(version, east, 21)])
        assert lookups(metrics, "miss") == misses
        assert ahead(metrics, "used") == 3
        assert ahead(metrics, "encoded") == 8 + 2 * 3  # each step has three new neighbours


def test_a_frame_encoded_ahead_gives_the_same_answer(
    session: MateformerSession, version: CellVersion, metrics: Metrics
) -> None:
    users = users_of(version, USERS)
    fresh = located(session, Estimator(session, 64, 2**24, Metrics()), users)
    estimator = Estimator(session, 64, 2**24, metrics)
    for user in users:
        located(session, estimator, [user])
        while estimator.ahead.encode_next():
            pass
    assert ahead(metrics, "encoded") > 0
    np.testing.assert_allclose(located(session, estimator, users), fresh, atol=1e-4)


def test_frames_encoded_ahead_displace_only_each_other(
    session: MateformerSession, version: CellVersion, metrics: Metrics
) -> None:
    frames = FrameCache(session, 16 * session.frame_bytes, 1, metrics)  # two of them may be ahead
    near = neighbourhoods(version, range(20), session.manifest.neighbourhood_size)
    used, others = near[:14], near[14:]
    for one in used:
        session.submit(frames.slots, [one]).result()
    for one in others:
        slot = session.submit(frames.reserve_ahead).result()
        assert slot is not None
        session.submit(frames.admit_ahead, one.key, slot).result()
    assert all(one.key in frames for one in used)
    assert [one.key in frames for one in others] == [False] * 4 + [True] * 2
    assert frames.find_entered(one.key for one in near) == {one.key for one in others}
    session.submit(frames.slots, others[-1:]).result()
    assert frames.find_entered([others[-1].key]) == set()
    assert ahead(metrics, "used") == 1


def test_a_loaded_cell_is_encoded_before_its_users_come(tmp_path: Path, metrics: Metrics) -> None:
    version = grid()
    with closing(
        MateformerSession(write_tiny_artifact(tmp_path, tile_pitch=2.0), 1, ["CPUExecutionProvider"])
    ) as session:
        estimator = Estimator(session, 1, 4800 * session.frame_bytes, metrics)
        estimator.ahead.note_loaded(version)
        assert estimator.ahead.may_encode
        while estimator.ahead.encode_next():
            pass
        assert not estimator.ahead.may_encode
        for east, north in version.positions[::7] + 0.1:
            located(session, estimator, [user_at(version, east, north)])
        assert lookups(metrics, "miss") == 0
        assert 0 < ahead(metrics, "used") < ahead(metrics, "encoded")


def test_fingerprints_of_loaded_cells_are_described_before_frames_are_encoded_and_as_long_as_there_is_room(
    session: MateformerSession, version: CellVersion, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, users = version_of(CELL, fingerprints_at(street(100, 3))), users_of(version, 2)
    row = 4 * session.manifest.features
    estimator = Estimator(session, 1, 4 * 200 * row, metrics)
    for loaded, held in ((first, 100), (version, 200)):  # of 100 and of 300 fingerprints
        estimator.ahead.note_loaded(loaded)
        assert estimator.ahead.encode_next()
        assert estimator.feature_bytes == held * row
        assert ahead(metrics, "encoded") == 0
    counts = count_described(session, monkeypatch)
    located(session, estimator, [user._replace(version=first) for user in users[:1]])
    assert counts == [1]  # no fingerprint of the first cell has left
    while estimator.ahead.encode_next():
        pass
    assert estimator.feature_bytes == 200 * row
    assert ahead(metrics, "encoded") > 0


def test_loaded_cells_take_an_eighth_of_the_frames_each_and_half_of_them_in_all(
    tmp_path: Path, metrics: Metrics
) -> None:
    with closing(
        MateformerSession(write_tiny_artifact(tmp_path, tile_pitch=2.0), 1, ["CPUExecutionProvider"])
    ) as session:
        estimator = Estimator(session, 1, 64 * session.frame_bytes, metrics)
        capacity = estimator.frame_pool_bytes // session.frame_bytes
        versions = [cell_of(grid().positions + np.float32(i)) for i in range(8)]
        for count, version in enumerate(versions, 1):
            estimator.ahead.note_loaded(version)
            while estimator.ahead.encode_next():
                pass
            assert ahead(metrics, "encoded") == min(count * (capacity // 8), capacity // 2)
        assert not estimator.ahead.may_encode


def test_a_loaded_cell_displaces_no_frame(session: MateformerSession, version: CellVersion, metrics: Metrics) -> None:
    frames = FrameCache(session, 16 * session.frame_bytes, 1, metrics)
    near = neighbourhoods(version, range(20), session.manifest.neighbourhood_size)
    for one in near[:15]:
        session.submit(frames.slots, [one]).result()
    slot = session.submit(frames.reserve_free).result()
    assert slot is not None
    session.submit(frames.admit_ahead, near[15].key, slot).result()
    assert session.submit(frames.reserve_free).result() is None
    assert all(one.key in frames for one in near[:16])


def test_frames_that_no_user_has_been_in_are_not_in_use(
    session: MateformerSession, version: CellVersion, metrics: Metrics
) -> None:
    estimator = Estimator(session, 1, 100 * session.frame_bytes, metrics)
    estimator.ahead.note_loaded(version)
    assert estimator.ahead.encode_next()
    assert estimator.ahead.tiles_in_use(version) == []
    located(session, estimator, users_of(version, 1))
    assert len(estimator.ahead.tiles_in_use(version)) == 1


def test_a_small_pool_has_no_room_for_frames_ahead(tmp_path: Path, metrics: Metrics) -> None:
    version = grid()
    with closing(
        MateformerSession(write_tiny_artifact(tmp_path, tile_pitch=2.0), 1, ["CPUExecutionProvider"])
    ) as session:
        estimator = Estimator(session, 2, 0, metrics)
        estimator.ahead.note_loaded(version)
        located(session, estimator, [user_at(version, 11, 21)])
        assert not estimator.ahead.encode_next()
        located(session, estimator, [user_at(version, 11, 21)])
        assert lookups(metrics, "hit") >= 1


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cores", [1, 8])
def test_missing_frames_are_dealt_to_the_cores_and_give_the_same_answers(
    artifact_directory: Path,
    session: MateformerSession,
    version: CellVersion,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    cores: int,
) -> None:
    users = users_of(version, 8)
    expected = [located(session, Estimator(session, 64, 2**20, metrics), [user])[0] for user in users]
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    artifact = load_artifact(artifact_directory, MateformerManifest)
    with closing(MateformerSession(artifact, threads, ["CPUExecutionProvider"])) as dealing:
        estimator = Estimator(dealing, 64, 2**24, metrics)
        encoded: list[int] = []  # frames of each run
        run = BoundGraph.run

        def note_frames(graph: BoundGraph, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            if "features_known" in feeds:
                encoded.append(len(feeds["slots"]))
            return run(graph, feeds)

        monkeypatch.setattr(BoundGraph, "run", note_frames)
        np.testing.assert_allclose(located(dealing, estimator, users), expected, atol=1e-3)
        assert len(encoded) == (threads if cores == 1 else threads + 1)  # the event loop's core helps
        assert max(encoded) - min(encoded) <= 1


def test_no_frame_is_held_when_one_of_several_threads_fails(
    session: MateformerSession, version: CellVersion, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = FrameCache(session, 0, 4, metrics)
    some = neighbourhoods(version, range(3), session.manifest.neighbourhood_size)
    run, owner = BoundGraph.run, session.submit(threading.get_ident).result()

    def fail_beside(graph: BoundGraph, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if threading.get_ident() != owner:
            raise RuntimeError("unforeseen")
        return run(graph, feeds)

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with monkeypatch.context() as failing:
        failing.setattr(BoundGraph, "run", fail_beside)
        with pytest.raises(InferenceFailed):
            session.submit(frames.slots, some).result()
    assert frames.held_bytes == 0
    assert len(session.submit(frames.slots, some).result()) == 3


def test_a_failed_proof_reserves_no_slot(tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(
        MateformerSession(write_tiny_artifact(tmp_path, tile_pitch=2.0), 1, ["CPUExecutionProvider"])
    ) as session:
        estimator = Estimator(session, 1, 0, metrics)

        def fail(slot: int) -> None:
            raise InferenceFailed("the model failed to run")

        with monkeypatch.context() as failing:
            failing.setattr(session, "prove_frame", fail)
            for _ in range(3):  # more often than there are slots
                with pytest.raises(InferenceFailed):
                    estimator.prove()
        estimator.prove()


def test_few_users_of_ready_frames_are_located_in_one_step_and_all_others_in_more(
    session: MateformerSession, version: CellVersion, metrics: Metrics
) -> None:
    """What takes long must not hold up the event loop."""
    estimator = Estimator(session, 64, 2**26, metrics)
    places = street(1, 5)
    snapshots = users_at(np.repeat(places, 17, axis=0)).astype(np.complex64).view(np.float32).reshape(17, 32, 32, 2)

    def count_steps(users: int, of: CellVersion = version) -> int:
        asked = [User(of, snapshots[i], places[0], 1.0) for i in range(users)]
        return sum(1 for _ in estimator.locate_in_steps(asked, Stopwatch())) + 1

    def at_work() -> list[int]:
        return [count_steps(1), count_steps(1), count_steps(16), count_steps(17)]

    assert session.submit(at_work).result() == [2, 1, 1, 2]
    small = version_of(CELL, fingerprints_at(street(session.manifest.minimum_neighbours + 1, 1)))
    assert session.submit(lambda: [count_steps(1, small) for _ in range(2)]).result() == [2, 2]

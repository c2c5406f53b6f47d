"""The counts of a cell's truths, with a directory, a Redis server and a Redis cluster."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reference_db import Cell, Origin, Store, replace_cell
from reference_db.errors import CorruptTruths
from reference_db.stores import directory_truths, redis_truths
from reference_db.stores.redis import RedisStore
from reference_db.truths import ScoredTruth, TruthCounts, TruthGroup, bin_of
from tests.redis_servers import PATIENCE_S, RedisServer, empty, keys_of
from tests.reference_db.conftest import MakeFingerprints
from tests.reference_db.stores.conftest import open_at

_GROUP = TruthGroup("2026-01-31", "mateformer", "3-ab12cd34ef56", 95)


@pytest.fixture
def cell_id(store: Store, cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin) -> str:
    update = replace_cell(None, cell, make_fingerprints(), origin)
    store.publish(update.manifest, update.segments, None)
    return cell.cell_id


def _truth(name: str, group: TruthGroup = _GROUP, east: float = 3.0, north: float = -4.0) -> ScoredTruth:
    return ScoredTruth(name, group, east, north, inside=north < 0, proposed=False)


def test_a_cell_without_truths_has_no_counts(store: Store, cell_id: str) -> None:
    assert store.read_truths(cell_id) == {}
    assert store.read_truths("another") == {}


def test_truths_add_up(store: Store, cell_id: str) -> None:
    assert store.add_truths(cell_id, [_truth("a"), _truth("b", north=4.0)]) == [True, True]
    other = _GROUP._replace(source="lwlm")
    assert store.add_truths(cell_id, [_truth("c", other), _truth("d")]) == [True, True]
    counts = store.read_truths(cell_id)
    assert counts.keys() == {_GROUP, other}
    found = counts[_GROUP]
    assert (found.truths, found.inside, found.east, found.north) == (3, 2, 9.0, -4.0)
    assert (found.east_squared, found.north_squared, found.distance) == (27.0, 48.0, 15.0)
    assert found.errors == {bin_of(5.0): 3}


def test_a_truth_counts_once(store: Store, cell_id: str) -> None:
    assert store.add_truths(cell_id, [_truth("a"), _truth("a"), _truth("b")]) == [True, False, True]
    assert store.add_truths(cell_id, [_truth("b"), _truth("c")]) == [False, True]
    assert store.read_truths(cell_id)[_GROUP].truths == 3


def test_writers_at_the_same_time_lose_nothing(address: str, store: Store, cell_id: str) -> None:
    replicas = [open_at(address) for _ in range(2)]

    def add(number: int) -> list[bool]:
        return replicas[number % 2].add_truths(cell_id, [_truth(f"{number}-{one}") for one in range(5)])

    with ThreadPoolExecutor(8) as threads:
        counted = list(threads.map(add, range(40)))
    for replica in replicas:
        replica.close()
    assert counted == [[True] * 5] * 40
    found = store.read_truths(cell_id)[_GROUP]
    assert (found.truths, found.east, found.errors) == (200, 600.0, {bin_of(5.0): 200})


def test_no_truth_counts_where_there_is_no_cell(store: Store) -> None:
    assert store.add_truths("another", [_truth("a")]) == [False]
    assert store.add_truths("../up", [_truth("a")]) == [False]
    assert store.read_truths("another") == {}


def test_counts_go_with_the_cell(
    store: Store, cell_id: str, cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    store.add_truths(cell_id, [_truth("a")])
    store.remove_cell(cell_id, None)
    update = replace_cell(None, cell, make_fingerprints(), origin)
    store.publish(update.manifest, update.segments, None)
    assert store.read_truths(cell_id) == {}
    assert store.add_truths(cell_id, [_truth("a")]) == [True]


def test_nothing_of_the_truths_stays_in_redis_after_the_cell(
    redis_server: RedisServer, cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    empty(redis_server)
    store = RedisStore(redis_server.url, timeout_s=PATIENCE_S)
    update = replace_cell(None, cell, make_fingerprints(), origin)
    store.publish(update.manifest, update.segments, None)
    store.add_truths(cell.cell_id, [_truth("a")])
    store.remove_cell(cell.cell_id, None)
    store.close()
    assert not [name for name in keys_of(redis_server) if ":truths" in name]


def test_the_oldest_groups_and_names_go(store: Store, cell_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (directory_truths, redis_truths):
        monkeypatch.setattr(module, "MOST_GROUPS", 3)
        monkeypatch.setattr(module, "MOST_REMEMBERED", 2)
    days = [_GROUP._replace(day=f"2026-01-0{number}") for number in range(1, 6)]
    for number in (2, 0, 1, 4, 3):
        store.add_truths(cell_id, [_truth(str(number), days[number])])
    assert sorted(store.read_truths(cell_id)) == days[2:]
    assert store.add_truths(cell_id, [_truth("3", days[3]), _truth("2", days[3])]) == [False, True]


def test_damaged_counts_are_an_error_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "c" / "truths.json"
    path.parent.mkdir()
    for damaged in (b"{", b"[]", b'{"counts": {"x": {}}, "remembered": []}'):
        path.write_bytes(damaged)
        with pytest.raises(CorruptTruths, match="'c'"):
            directory_truths.read_truths(path)


def test_quantiles_are_right_to_a_twentieth() -> None:
    distances = [0.0, 0.02, 0.3, 1.7, 40.0]
    counts = TruthCounts()
    for number, distance in enumerate(distances):
        counts += TruthCounts.of(_truth(str(number), east=distance, north=0.0))
    assert counts.quantile(0.5) == pytest.approx(0.3, rel=0.05)
    assert counts.quantile(0.8) == pytest.approx(1.7, rel=0.05)
    assert counts.quantile(0.95) == pytest.approx(40.0, rel=0.05)


def test_a_group_has_a_name() -> None:
    assert TruthGroup.from_name(str(_GROUP)) == _GROUP

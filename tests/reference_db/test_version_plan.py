import pytest

from reference_db.version_plan import needs_reindexing


@pytest.mark.parametrize("indexed", [1, 100, 511])
def test_indices_of_few_fingerprints_are_rebuilt_at_every_append(indexed: int) -> None:
    assert needs_reindexing(indexed, 1)
    assert not needs_reindexing(indexed, 0)


@pytest.mark.parametrize(("indexed", "most"), [(512, 128), (10_000, 2500), (100_000, 25_000), (1_000_000, 100_000)])
def test_larger_indices_are_extended_by_up_to_a_quarter_and_a_bound(indexed: int, most: int) -> None:
    assert not needs_reindexing(indexed, most)
    assert needs_reindexing(indexed, most + 1)


def test_a_growing_cell_indexes_each_fingerprint_a_few_times() -> None:
    indexed, appended, made = 1000, 0, 0
    while indexed + appended < 200_000:
        appended += 100
        if needs_reindexing(indexed, appended):
            indexed, appended, made = indexed + appended, 0, made + indexed + appended
    assert made < 6 * 200_000

from benchmarks.new_tiles import DISPATCHES, measure, report
from benchmarks.serving.served_models import shipped


def test_each_size_of_a_dispatch_has_a_row_with_three_costs(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.new_tiles.FOLDER", tmp_path)
    rows = measure(shipped(), 2)
    assert [row[1] for row in rows] == [str(size) for size in DISPATCHES]
    assert all(float(cost) > 0 for row in rows for cost in row[2:])
    assert report(rows).count("\n| ") == 2 + len(rows)

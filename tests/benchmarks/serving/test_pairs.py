import math
from pathlib import Path

import pytest

from benchmarks.serving import cells
from benchmarks.serving.app_alone import App, AppFailed
from benchmarks.serving.pairs import FULL, Pair, Side, _alternately, markdown
from benchmarks.serving.served_models import SHIPPED
from benchmarks.serving.servers import THIS_CHECKOUT
from benchmarks.serving.workload import encode_request, users_at_one_place

SIDES = (Side("before", THIS_CHECKOUT, SHIPPED), Side("after", THIS_CHECKOUT, SHIPPED))


def test_sides_alternate_so_that_drift_hits_both_alike() -> None:
    names = [side.name for side in _alternately(SIDES, 3)]
    assert names == ["before", "after", "after", "before", "before", "after"]


def test_the_ratio_is_the_median_of_the_ratios_of_each_repetition() -> None:
    assert Pair("x", [1.0, 2.0, 4.0], [2.0, 2.0, 2.0]).ratio == 1.0
    assert math.isnan(Pair("x", [0.0], [1.0]).ratio)


def loads(after: float) -> list[list[Pair]]:
    return [
        [Pair("shared, single", [100.0], [after]), Pair("shared, single", [200.0], [200.0]), Pair("", [1.0], [1.0])]
    ]


def test_the_report_says_whether_the_budget_is_met() -> None:
    app = [Pair("single", [1e-4], [2e-4]), Pair("live", [1e-5], [1.0])]
    met = markdown(SIDES, FULL, app, {"shipped model": loads(after=96.0)})
    assert "**Met.**" in met
    assert "| shared, single | 100 (100-100) | 96 (96-96) | 0.96 (0.96-0.96) |" in met
    assert "| single | 0.100 (0.100-0.100) | 0.200 (0.200-0.200) | 2.00 (2.00-2.00) |" in met
    slow = [Pair("single", [1e-4], [3e-4]), app[1]]
    missed = markdown(SIDES, FULL, slow, {"shipped model": loads(after=94.0)})
    assert "**Missed: sustained rate, shipped model, shared, single; CPU of the app alone, single.**" in missed


def test_the_app_alone_answers_without_server_and_model(tmp_path: Path) -> None:
    cell, fingerprints = cells.street(0)
    cells.import_cell(cell, fingerprints, tmp_path / "database", SHIPPED)
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_bytes(encode_request(users_at_one_place(cell, fingerprints, users=1), "json"))
    environment = {"FINGERPOST_DATABASE_DIRECTORY": str(tmp_path / "database")}
    with App.running(THIS_CHECKOUT.folder, bodies, environment) as app:
        assert 0 < app.cpu_of("locate", 50) < 0.1
        bodies.write_bytes(b"{}")
    with pytest.raises(AppFailed, match="/locate answered 400"), App.running(THIS_CHECKOUT.folder, bodies, environment):
        pass

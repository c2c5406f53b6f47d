import numpy as np
import pytest

from benchmarks import reference_db
from benchmarks.reference_db import ExactSignals, markdown, measure
from benchmarks.serving.cells import town
from reference_db import References, signal_feature


def test_a_small_town_is_measured_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_db, "_USERS", 20)
    monkeypatch.setattr(reference_db, "_PORTION", 50)
    cost = measure(800)
    assert min(*cost.look_ups.values(), *cost.look_ups_appended.values()) > 0
    assert (cost.appended, len(cost.appends_s)) == (160, 4)
    assert set(cost.moved.values()) == {0.0}  # the index compares all of so few
    found, appended = markdown([cost]).split("\n\n")
    for table, start in ((found, "| 800 |"), (appended, "| 800 | 160 |")):
        head, _, row = table.splitlines()
        assert head.count("|") == row.count("|")
        assert row.startswith(start)


def test_exact_signals_compare_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_db, "_AT_ONCE", 70)
    _, fingerprints = town(300, 16)
    signals = References.of(fingerprints.positions, fingerprints.csi).signals
    features = signal_feature(fingerprints.csi[::30])
    for found, expected in zip(ExactSignals(signals).nearest(features, 9), signals.nearest(features, 9), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-3)

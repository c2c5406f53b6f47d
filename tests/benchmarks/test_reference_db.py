import numpy as np
import pytest

from benchmarks import reference_db
from benchmarks.reference_db import Everybody, markdown, measure
from benchmarks.serving.cells import town
from reference_db import References, signal_feature


def test_a_small_town_is_looked_up_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_db, "_USERS", 20)
    cost = measure(300)
    assert min(cost.look_ups.values()) > 0
    assert set(cost.moved.values()) == {0.0}  # all of so few are compared anyway
    head, _, row = markdown([cost]).splitlines()
    assert head.count("|") == row.count("|")
    assert row.startswith("| 300 |")


def test_everybody_is_compared_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_db, "_AT_ONCE", 70)
    _, fingerprints = town(300, 16)
    signals = References.of(fingerprints.positions, fingerprints.csi).signals
    features = signal_feature(fingerprints.csi[::30])
    for found, expected in zip(Everybody(signals).nearest(features, 9), signals.nearest(features, 9), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-3)

"""The measurement of cells in a small form, on the shipped model and a real Redis."""

from pathlib import Path

import pytest

from benchmarks.sizing.measure import measure


@pytest.fixture(autouse=True)
def short_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SAMPLES", "20")
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SIGMAS_M", "[1.0]")


@pytest.mark.usefixtures("redis_here")
def test_cells_take_at_least_their_csi_and_users_theirs_on_the_wire(tmp_path: Path) -> None:
    cost = measure(3, 0.5, tmp_path)
    csi = 32 * 32 * 4 * cost.fingerprints  # float16 pairs
    assert csi < cost.redis_bytes < 2 * csi
    assert csi < cost.load_bytes < 2 * csi
    assert 0 < cost.redis_append_bytes < csi / 4
    assert cost.replica_bytes > csi
    assert 0 < cost.tiles <= 900
    assert cost.frame_bytes > 0
    for wire in cost.wire:
        sent = 32 * 32 * {"complex64": 8, "complex32": 4}[wire.encoding] * {"msgpack": 1, "JSON": 4 / 3}[wire.format]
        assert sent < wire.request_bytes < sent + 1000
        assert 500 < wire.answer_bytes < 2000
    assert "| a frame |" in cost.markdown()

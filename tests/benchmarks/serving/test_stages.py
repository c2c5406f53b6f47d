from pathlib import Path

import pytest

from benchmarks.serving import stages
from benchmarks.serving.served_models import shipped
from benchmarks.serving.stages import STAGES, Request, measure, report


def test_the_stages_of_a_request_are_read_off_a_real_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "FOLDER", tmp_path)
    found = measure(shipped(), requests=20)
    assert found.stages.keys() == STAGES.keys()
    assert all(seconds > 0 for seconds in found.stages.values())
    assert found.rest > 0
    assert found.hand_over > 0
    assert 0 < found.app_cpu < 0.1
    assert found.cpu_loop + found.cpu_others > 0


def test_the_rest_is_what_no_stage_explains() -> None:
    request = Request(
        dict.fromkeys(STAGES, 0.001), latency=0.0085, hand_over=0.0001, app_cpu=0.001, cpu_loop=0.002, cpu_others=0.004
    )
    assert request.rest == pytest.approx(0.0025)
    text = report([(shipped(), request)])
    assert "| decode | parse and validate the body, decode the CSI | 1,000 |" in text
    assert "| 2,500 |" in text

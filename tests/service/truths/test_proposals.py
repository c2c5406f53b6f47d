import numpy as np
import pytest

from service.locating.recent_answers import GivenAnswer
from service.truths.proposals import Candidate, propose_fingerprints
from service.truths.scoring import score_answer
from tests.service.tiny_cell import cell_of

_VERSION = cell_of(np.stack([np.arange(40.0), np.zeros(40)], axis=1).astype(np.float32))  # one a metre


def _candidate(x: float, y: float, off: float = 0.1, sigma: float = 0.05, reach: float = 2.0) -> Candidate:
    answer = GivenAnswer(x + off, y, reach, reach, 0, 95, "mateformer", "1-ab", "digest")
    return Candidate(x, y, sigma, score_answer(answer, x, y, sigma))


@pytest.mark.parametrize(
    ("candidate", "reasons"),
    [
        (_candidate(10.2, 0.0), None),
        (_candidate(10.2, 1.9), None),  # as far away as two fingerprints from each other
        (_candidate(10.2, 2.5), ["FAR_FROM_FINGERPRINTS"]),
        (_candidate(10.2, 0.0, off=1.5), ["BADLY_LOCATED"]),
        (_candidate(10.2, 0.0, off=0.8, reach=0.5), ["OUTSIDE_ELLIPSE"]),
        (_candidate(10.2, 2.5, off=4.0), ["FAR_FROM_FINGERPRINTS", "BADLY_LOCATED", "OUTSIDE_ELLIPSE"]),
        (_candidate(10.2, 2.5, sigma=0.6), None),  # a label that is wrong by half the way to the next fingerprint
    ],
)
def test_a_truth_pays_where_the_cell_knows_little(candidate: Candidate, reasons: list[str] | None) -> None:
    assert propose_fingerprints([candidate], _VERSION) == [reasons]


def test_truths_beside_each_other_pay_once() -> None:
    drive = [_candidate(10.0 + 0.2 * step, 3.0) for step in range(6)]
    proposed = [number for number, reasons in enumerate(propose_fingerprints(drive, _VERSION)) if reasons]
    assert proposed == [0, 3]


def test_a_truth_without_csi_is_never_proposed() -> None:
    assert propose_fingerprints([None, _candidate(10.0, 3.0)], _VERSION) == [None, ["FAR_FROM_FINGERPRINTS"]]


def test_a_cell_without_fingerprints_needs_every_truth() -> None:
    assert propose_fingerprints([_candidate(10.0, 0.0)], None) == [["FAR_FROM_FINGERPRINTS"]]

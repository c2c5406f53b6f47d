"""Queues by how long their first has waited."""

import time

import pytest

from service.admission import Admission
from service.errors import Congested

LONGEST, STANDING = 0.25, 0.005
MS = 1e-3


@pytest.fixture
def burst() -> Admission:
    """The network was idle a moment ago."""
    admission = Admission(LONGEST, STANDING)
    admission.begins()
    return admission


@pytest.fixture
def lasting(burst: Admission) -> Admission:
    """The network has had no rest for a while."""
    time.sleep(60 * MS)
    return burst


def test_under_lasting_load_nobody_joins_those_who_wait_long(lasting: Admission) -> None:
    lasting.check("single", 4 * MS)
    with pytest.raises(Congested):
        lasting.check("single", 6 * MS)


def test_batches_may_wait_longer(lasting: Admission) -> None:
    lasting.check("batch", 24 * MS)
    with pytest.raises(Congested):
        lasting.check("batch", 26 * MS)


def test_a_burst_may_wait_longer(burst: Admission) -> None:
    burst.check("single", 240 * MS)
    with pytest.raises(Congested):
        burst.check("single", 260 * MS)


def test_load_that_pauses_is_a_burst_again(lasting: Admission) -> None:
    lasting.begins()
    lasting.check("single", 240 * MS)


def test_time_spent_encoding_is_no_lasting_load(burst: Admission) -> None:
    burst.encoded(100 * MS)
    time.sleep(60 * MS)
    burst.check("single", 240 * MS)

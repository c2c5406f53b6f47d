"""Whether CSI belongs to a cell, against what its own fingerprints look like at every SNR."""

import numpy as np
import pytest

from reference_db import CellVersion
from reference_db.half_csi import as_complex
from reference_db.index.signal_features import describe_signals
from reference_db.retrieval import LeftOut, find_voters
from service.inference.belonging import DOUBTFUL, FOREIGN, Belonging, Strangeness, add_noise, measure_belonging
from tests.service.plane_cell import fingerprints_at, make_cell, street, users_at
from tests.service.tiny_cell import version_of

N = 800
ROWS = np.arange(N)


@pytest.fixture(scope="module")
def version() -> CellVersion:
    return version_of(make_cell("plane"), fingerprints_at(street(N, 1)))


@pytest.fixture(scope="module")
def belonging(version: CellVersion) -> Belonging:
    return measure_belonging(version, LeftOut.alone(ROWS, N), ROWS)


@pytest.fixture(scope="module")
def users() -> np.ndarray:
    csi = users_at(street(600, 2))
    return csi.view(np.float32).reshape(*csi.shape, 2)


def p_values(belonging: Belonging, version: CellVersion, csi: np.ndarray) -> np.ndarray:
    signals, nowhere = describe_signals(as_complex(csi)), np.full((len(csi), 2), np.nan, np.float32)
    voters = find_voters(version.references, signals.features, nowhere, nowhere[:, 0])
    return belonging.p_values(Strangeness.of(version.references, voters, signals.snr_db))


@pytest.mark.parametrize("snr_db", [None, 25.0, 20.0, 12.0, 10.0])
def test_own_users_have_uniform_p_values_at_any_snr(
    belonging: Belonging, version: CellVersion, users: np.ndarray, snr_db: float | None
) -> None:
    csi = users if snr_db is None else add_noise(users, snr_db, np.random.default_rng(3))
    p = p_values(belonging, version, csi)
    assert ((p > 0) & (p <= 1)).all()
    assert (p < FOREIGN).mean() <= 0.02
    for share in (0.1, 0.5):
        assert (p < share).mean() == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize("kind", ["noise", "conjugated", "columns reversed", "subcarriers reversed"])
def test_foreign_csi_is_recognised(belonging: Belonging, version: CellVersion, users: np.ndarray, kind: str) -> None:
    csi = as_complex(users)
    random = np.random.default_rng(4).standard_normal((2, *csi.shape))
    foreign = {
        "noise": random[0] + 1j * random[1],
        "conjugated": csi.conj(),
        "columns reversed": csi[:, ::-1],
        "subcarriers reversed": csi[..., ::-1],
    }[kind].astype(np.complex64)
    pairs = np.ascontiguousarray(foreign).view(np.float32).reshape(*foreign.shape, 2)
    assert (p_values(belonging, version, pairs) < DOUBTFUL).mean() > 0.95


def test_a_null_distribution_survives_json(belonging: Belonging) -> None:
    assert Belonging.model_validate_json(belonging.model_dump_json()) == belonging


def test_levels_go_down_from_the_surveys_own_snr(belonging: Belonging) -> None:
    snrs = [level.snr_db for level in belonging.levels]
    assert snrs == sorted(snrs, reverse=True)
    assert len(snrs) > 2
    assert belonging.levels[0].noise == 0


def test_noise_has_the_stated_power(users: np.ndarray) -> None:
    noisy = add_noise(users, 10.0, np.random.default_rng(0))
    ratio = np.square(noisy - users).mean(axis=(1, 2, 3)) / np.square(users).mean(axis=(1, 2, 3))
    assert 10 * np.log10(ratio.mean()) == pytest.approx(-10, abs=0.1)


def test_csi_that_is_little_but_noise_is_foreign_however_few_the_fingerprints(
    belonging: Belonging, version: CellVersion, users: np.ndarray
) -> None:
    buried = add_noise(users, -15.0, np.random.default_rng(6))
    assert (p_values(belonging, version, buried) < FOREIGN).mean() > 0.95
    few = measure_belonging(version, LeftOut.alone(ROWS[:20], N), ROWS[:20])
    assert (p_values(few, version, buried) < FOREIGN).mean() > 0.95


def test_own_users_at_3_db_are_no_strangers(belonging: Belonging, version: CellVersion, users: np.ndarray) -> None:
    csi = add_noise(users, 3.0, np.random.default_rng(7))
    assert (p_values(belonging, version, csi) < FOREIGN).mean() <= 0.03

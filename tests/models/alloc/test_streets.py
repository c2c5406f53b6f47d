"""Which fingerprints and users a scenario has."""

from pathlib import Path

import numpy as np
import pytest

from models.alloc.streets import REGION_M, Street, StreetOf, Survey, TooFewUsers, load_street
from models.radio.front_end import Radio
from models.radio.path_table import PathTablesMissing
from reference_db.cell import AntennaArray

RADIO = Radio(array=AntennaArray(rows=1, columns=8), subcarriers=16, bandwidth=40e6, wavefronts="spherical")
CELL = "etoile:900"
USERS = 40


def load(paths: Path, users: int = USERS, **of: object) -> Street:
    return load_street("street", StreetOf(cell=CELL, **of), RADIO, 3.5e9, users, paths)


def test_no_located_user_is_in_the_survey(paths: Path) -> None:
    street = load(paths)
    assert (len(street.survey), len(street.users)) == (250 - USERS, USERS)
    apart = np.linalg.norm(street.users.positions[:, None] - street.survey.positions, axis=-1)
    assert apart.min() > 0


def test_a_survey_has_a_power_of_one_and_remembers_its_scale(paths: Path) -> None:
    street = load(paths)
    survey = Survey.of(street, 50)
    assert np.square(np.abs(survey.csi)).mean() == pytest.approx(1, rel=1e-4)
    assert np.allclose(survey.csi * np.complex64(survey.scale), street.survey.csi[:50], rtol=1e-4)
    with pytest.raises(TooFewUsers, match="210 fingerprints; 500 were asked for"):
        Survey.of(street, 500)


def test_a_neighbourhood_begins_with_the_fingerprint_itself(paths: Path) -> None:
    survey = Survey.of(load(paths), None)
    assert np.array_equal(survey.neighbourhoods[:, 0], np.arange(len(survey.positions)))
    assert survey.neighbourhoods.shape == (210, 65)


def test_nobody_surveyed_the_region_in_which_users_are_located(paths: Path) -> None:
    street = load(paths, users=15, region=True)
    everyone = load(paths, users=15)
    positions = np.concatenate([everyone.survey.positions, everyone.users.positions])
    centred = positions - positions.mean(0)
    along = np.linalg.svd(centred, full_matrices=False)[2][0]
    middle = np.median(centred @ along)
    places = [(one.positions - positions.mean(0)) @ along - middle for one in (street.survey, street.users)]
    assert np.abs(places[0]).min() >= REGION_M / 2 - 1e-3
    assert np.abs(places[1]).max() <= REGION_M / 2 + 1e-3
    assert len(street.survey) > 100


def test_rain_weakens_every_path_and_moves_nobody(paths: Path) -> None:
    dry, wet = (load(paths, carrier_frequency=60e9, bandwidth=1.6e9, rain=rate) for rate in (0.0, 50.0))
    assert np.array_equal(dry.users.positions, wet.users.positions)
    power = [np.square(np.abs(one.survey.csi)).sum((1, 2)) for one in (dry, wet)]
    assert (power[1] < power[0]).mean() > 0.99
    assert dry.radio.bandwidth == 1.6e9
    assert dry.carrier_frequency == 60e9


def test_a_changed_street_has_the_first_state_s_fingerprints_and_the_second_s_users(paths: Path) -> None:
    street = load(paths, users_in="cars")
    bare = load(paths)
    assert np.array_equal(street.survey.csi, bare.survey.csi)
    assert np.array_equal(street.users.positions, bare.users.positions)  # the fixture's cars change nothing


def test_a_street_that_was_not_traced_names_the_command_that_traces_it(paths: Path) -> None:
    with pytest.raises(PathTablesMissing, match=r"fingerpost-train scenes trace etoile:900 .*--street facade"):
        load(paths, state="facade")


def test_a_street_with_too_few_users_is_refused(paths: Path) -> None:
    with pytest.raises(TooFewUsers, match="paths reach 250 users of etoile:900, and 250 are to be located"):
        load(paths, users=250)

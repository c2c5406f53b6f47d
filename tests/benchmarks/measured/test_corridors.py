from pathlib import Path

import numpy as np
import pytest

from benchmarks.measured.corridors import find_null_subcarriers, read_corridors
from reference_db import read_fingerprint_file

SURVEYED, REPEATED, TESTED, ASKED = 30, 10, 5, 3


def test_a_corridor_has_the_points_of_its_survey_and_those_of_its_test(file: Path) -> None:
    one, two = read_corridors(file, "captured")
    assert [one.name, two.name] == ["corridor-1", "corridor-2"]
    for corridor in (one, two):
        assert len(corridor.survey) == SURVEYED * REPEATED
        assert len(corridor.test) == TESTED * ASKED
        assert not set(corridor.survey.points.tolist()) & set(corridor.test.points.tolist())
        np.testing.assert_array_equal(corridor.survey.positions[0], [0, 0])
        assert corridor.survey.csi.shape[1:] == (1, 64)


def test_a_point_in_both_parts_is_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    test = arrays["test"].copy()
    test[0] = True
    np.savez(tmp_path / "split.npz", **(arrays | {"test": test}))
    with pytest.raises(ValueError, match="point 100 are in the survey and in the test"):
        read_corridors(tmp_path / "split.npz", "channel")


def test_another_number_of_subcarriers_is_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", **(arrays | {"csi": arrays["csi"][:, :53]}))
    with pytest.raises(ValueError, match="64"):
        read_corridors(tmp_path / "few.npz", "channel")


def test_null_subcarriers_are_cleared_where_only_the_channel_is_shown(
    file: Path, arrays: dict[str, np.ndarray]
) -> None:
    null = find_null_subcarriers()
    assert np.flatnonzero(null).tolist() == [0, 1, 2, 3, 32, 61, 62, 63]
    (channel, _), (captured, _) = read_corridors(file, "channel"), read_corridors(file, "captured")
    np.testing.assert_array_equal(captured.survey.csi[:, 0], arrays["csi"][: SURVEYED * REPEATED])
    np.testing.assert_array_equal(channel.survey.csi[..., ~null], captured.survey.csi[..., ~null])
    assert not channel.survey.csi[..., [0, 1, 2, 3, 61, 62, 63]].any()
    around = captured.survey.csi[..., [31, 33]].mean(axis=-1)
    np.testing.assert_allclose(channel.survey.csi[..., 32], around, rtol=1e-5)


def test_a_survey_is_written_with_so_many_snapshots_of_each_point(file: Path, tmp_path: Path) -> None:
    corridor, _ = read_corridors(file, "channel")
    corridor.write_survey(tmp_path / "survey.safetensors", 2)
    cell, fingerprints = read_fingerprint_file(tmp_path / "survey.safetensors")
    assert cell == corridor.describe()
    assert len(fingerprints.csi) == 2 * SURVEYED
    _, counts = np.unique(fingerprints.positions, axis=0, return_counts=True)
    assert set(counts.tolist()) == {2}
    assert len(corridor.with_tests(1).test) == TESTED
    assert corridor.with_tests(None) is corridor

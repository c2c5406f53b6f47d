from pathlib import Path

import h5py
import numpy as np
import pytest

from reference_db import AntennaArray, BadFingerprintFile, Cell, Fingerprints, read_fingerprint_file
from reference_db.data_folder import find_data_files, hold_out, read_data_files, write_survey_and_users
from reference_db.errors import BadFingerprint
from reference_db.layout import CONVENTION, Layout

CELL = Cell(
    cell_id="published",
    latitude_deg=48.0,
    longitude_deg=9.0,
    height=2.0,
    yaw=0.0,
    array=AntennaArray(rows=1, columns=4),
    carrier_frequency=3.5e9,
    bandwidth=40e6,
    subcarriers=8,
)
POINTS, SNAPSHOTS = 20, 3


@pytest.fixture
def survey() -> Fingerprints:
    """Three snapshots of each of twenty points, in random order."""
    random = np.random.default_rng(5)
    n = POINTS * SNAPSHOTS
    points = np.repeat(np.stack([np.arange(POINTS) * 1.5, np.arange(POINTS) % 4.0], axis=1), SNAPSHOTS, axis=0)
    csi = random.normal(size=(n, 4, 8)) + 1j * random.normal(size=(n, 4, 8))
    order = random.permutation(n)
    return Fingerprints(
        csi.astype(np.complex64)[order],
        points.astype(np.float32)[order],
        np.zeros(n),
        np.full(n, 0.05, np.float32),
    )


@pytest.fixture
def folder(survey: Fingerprints, tmp_path: Path) -> Path:
    for name, rows in (("train.h5", slice(0, 40)), ("test.h5", slice(40, None))):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"], file["data_loc"] = survey.csi[rows], survey.positions[rows]
    (tmp_path / "README.txt").write_text("data")
    (tmp_path / "positions.csv").write_text("time,x,y\n")
    return tmp_path


def test_all_files_of_a_folder_are_read_in_the_order_of_their_names(folder: Path, survey: Fingerprints) -> None:
    files = find_data_files(folder)
    assert [file.name for file in files] == ["test.h5", "train.h5"]
    made, notes = read_data_files(files, CELL, CONVENTION)
    assert not notes
    np.testing.assert_array_equal(made.csi, np.roll(survey.csi, 20, axis=0))
    assert find_data_files(folder / "train.h5") == [folder / "train.h5"]


def test_recordings_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "tfrecords").mkdir()
    (tmp_path / "tfrecords" / "a.tfrecords").touch()
    assert find_data_files(tmp_path) == [tmp_path / "tfrecords" / "a.tfrecords"]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "has no file that ends in .*; it is empty"),
        (["walk.pcapng", "README"], r"it has files of \.pcapng, no suffix; save captures as pcap \(editcap -F pcap\)"),
        (["csi.npy"], r"a \.npy or \.csv file is read if you name it"),
        (["a.h5", "a.mat"], r"has files of several formats, \.h5, \.mat; name one file"),
        (["params.json", "rx_pos_t001_tx000_r000.mat"], "is a scenario of DeepMIMO"),
    ],
)
def test_a_folder_of_other_files_is_refused(tmp_path: Path, names: list[str], complaint: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(BadFingerprintFile, match=complaint):
        find_data_files(tmp_path)


def test_a_file_that_does_not_fit_is_named(folder: Path) -> None:
    with pytest.raises(BadFingerprintFile, match=r"^test\.h5: row 0: csi has 4 antennas and 4 subcarriers"):
        read_data_files(find_data_files(folder), CELL, Layout.read(subcarrier_step=2))


def test_points_are_held_out_whole_and_both_files_together_are_the_data(survey: Fingerprints, tmp_path: Path) -> None:
    held = hold_out(survey, "location", 0.25, 0.1, seed=1)
    references, users = write_survey_and_users(tmp_path / "out", CELL, survey, held)
    assert [path.name for path in (references, users)] == [
        "published-references.safetensors",
        "published-users.safetensors",
    ]
    parts = [read_fingerprint_file(path) for path in (references, users)]
    assert [cell for cell, _ in parts] == [CELL, CELL]
    places = [set(map(tuple, part.positions.tolist())) for _, part in parts]
    assert [len(part) for _, part in parts] == [45, 15]
    assert [len(place) for place in places] == [15, 5]
    assert not places[0] & places[1]
    np.testing.assert_array_equal(parts[1][1].positions, survey.positions[held])
    np.testing.assert_allclose(parts[1][1].csi, survey.csi[held], rtol=2e-3, atol=2e-3)  # float16


def test_another_seed_holds_out_others_and_none_holds_out_nothing(survey: Fingerprints, tmp_path: Path) -> None:
    masks = [hold_out(survey, "location", 0.25, 0.1, seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()
    nothing = hold_out(survey, "none", 0.25, 0.1, 1)
    assert [path.name for path in write_survey_and_users(tmp_path, CELL, survey, nothing)] == [
        "published-references.safetensors"
    ]


def test_nothing_is_written_if_a_fingerprint_is_bad(survey: Fingerprints, tmp_path: Path) -> None:
    survey.csi[7] = 0
    with pytest.raises(BadFingerprint, match="row 7"):
        write_survey_and_users(tmp_path, CELL, survey, hold_out(survey, "location", 0.25, 0.1, 1))
    assert not list(tmp_path.iterdir())

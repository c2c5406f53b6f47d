import numpy as np
import pytest

from fingerpost import PathFeatures, build_locate_request, build_trajectory_request


def test_csi_may_be_anything_that_is_an_array() -> None:
    request = build_locate_request("c", [[1 + 2j, 3j], [4, 5]])  # type: ignore[arg-type]
    assert request.csi.shape == [2, 2]
    np.testing.assert_array_equal(np.frombuffer(request.csi.data, "<c8"), [1 + 2j, 3j, 4, 5])


@pytest.mark.parametrize("csi", [np.ones(4), np.ones((2, 2, 2)), np.array(1j)])
def test_csi_of_other_dimensions_is_refused_in_plain_words(csi: np.ndarray) -> None:
    with pytest.raises(ValueError, match="antennas, subcarriers"):
        build_locate_request("c", csi)


def test_each_snapshot_has_its_path_features() -> None:
    with pytest.raises(ValueError, match="1 path features for 2 snapshots"):
        build_trajectory_request("c", np.ones((2, 3, 4)), [PathFeatures(distance=5.0)])

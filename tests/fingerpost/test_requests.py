import numpy as np
import pytest

from fingerpost import PathFeatures, build_locate_request, build_trajectory_request, join_pairs
from fingerpost.csi import encode_csi


class Foreign:
    """An array of another library, such as a tensor."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return self.array


@pytest.mark.parametrize(
    "csi", [[[1 + 2j, 3j], [4, 5]], Foreign(np.array([[1 + 2j, 3j], [4, 5]])), np.array([[1 + 2j, 4], [3j, 5]]).T]
)
def test_csi_may_be_anything_that_numpy_makes_a_complex_array_of(csi: object) -> None:
    request = build_locate_request("c", csi)  # type: ignore[arg-type]
    assert request.csi.shape == [2, 2]
    np.testing.assert_array_equal(np.frombuffer(request.csi.data, "<c8"), [1 + 2j, 3j, 4, 5])


@pytest.mark.parametrize(
    "csi", [np.ones(4, complex), np.ones((2, 2, 2), complex), np.array(1j), np.ones((0, 3), complex)]
)
def test_csi_of_other_dimensions_is_refused_with_its_shape(csi: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"dimensions \[antennas, subcarriers\], not the shape \[.*\]"):
        encode_csi(csi)


@pytest.mark.parametrize("csi", [np.ones((2, 3)), np.ones((2, 3, 2), np.float32), [[1, 2]], np.ones((2, 2), bool)])
def test_real_csi_is_refused_with_the_way_out(csi: object) -> None:
    with pytest.raises(ValueError, match=r"real-valued .* must be complex.*join_pairs"):
        encode_csi(csi)  # type: ignore[arg-type]


@pytest.mark.parametrize("csi", [[["a"]], [[1j, 2], [3]], [[None]]])
def test_csi_of_no_numbers_is_refused(csi: object) -> None:
    with pytest.raises(ValueError, match=r"complex numbers|not an array"):
        encode_csi(csi)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "fault"), [(np.nan, "NaN or infinity"), (complex(0, np.inf), "NaN or infinity"), (1e39, "too large")]
)
def test_numbers_that_the_service_cannot_take_are_refused_with_their_place(number: complex, fault: str) -> None:
    csi = np.ones((2, 3), complex)
    csi[1, 2] = number
    with pytest.raises(ValueError, match=rf"{fault}.* at \[1, 2\] of \[antennas, subcarriers\]"):
        encode_csi(csi)


def test_pairs_are_joined_where_the_caller_says_that_they_are_pairs() -> None:
    pairs = np.arange(12.0).reshape(2, 3, 2)
    np.testing.assert_array_equal(join_pairs(pairs), pairs[..., 0] + 1j * pairs[..., 1])
    for wrong in (np.ones((2, 3)), np.ones((2, 2), complex), np.array(1.0)):
        with pytest.raises(ValueError, match="pairs must be real numbers"):
            join_pairs(wrong)


def test_each_snapshot_has_its_path_features() -> None:
    with pytest.raises(ValueError, match="1 path features for 2 snapshots"):
        build_trajectory_request("c", np.ones((2, 3, 4), complex), [PathFeatures(distance=5.0)])
    with pytest.raises(ValueError, match="snapshots, antennas, subcarriers"):
        build_trajectory_request("c", np.ones((3, 4), complex))

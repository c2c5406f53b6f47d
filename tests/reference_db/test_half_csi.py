import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from reference_db.half_csi import PackedCsi, as_complex, largest_components, pack_csi, unpack_csi

components = st.just(0.0) | st.floats(2**-20, 1, width=32) | st.floats(-1, -(2**-20), width=32)
pairs = arrays(np.float32, (3, 2, 4, 2), elements=components)
gains = st.floats(-12, 0).map(lambda decades: 10.0**decades)


def _csi(values: NDArray[np.float32], gain: float) -> NDArray[np.complex64]:
    return as_complex((values * gain).astype(np.float32))


@given(pairs, gains)
def test_packing_keeps_eleven_bits_at_any_gain(values: NDArray[np.float32], gain: float) -> None:
    csi = _csi(values, gain)
    back = unpack_csi(*pack_csi(csi)).astype(np.float64)
    exact = csi.view(np.float32).reshape(back.shape).astype(np.float64)
    peak = np.abs(exact).max(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(back - exact) <= 2**-11 * np.abs(exact) + 2**-38 * peak).all()


@given(pairs, gains)
def test_packing_what_was_unpacked_changes_no_bit(values: NDArray[np.float32], gain: float) -> None:
    packed, scale = pack_csi(_csi(values, gain))
    again, scale_again = pack_csi(as_complex(unpack_csi(packed, scale)))
    np.testing.assert_array_equal(again, packed)
    nonzero = packed.any(axis=(1, 2, 3))
    np.testing.assert_array_equal(scale_again[nonzero], scale[nonzero])


def test_a_peak_that_rounds_up_to_a_power_of_two_is_packed_the_same_again() -> None:
    csi = np.array([[[1 - 2**-20, 3e-9j]]], dtype=np.complex64)
    packed, scale = pack_csi(csi)
    again, scale_again = pack_csi(as_complex(unpack_csi(packed, scale)))
    assert (again.tobytes(), scale_again) == (packed.tobytes(), scale)


def test_each_snapshot_has_its_own_scale() -> None:
    csi = np.array([[[1e-12 + 0j]], [[1e12 + 0j]]], dtype=np.complex64)
    back = as_complex(unpack_csi(*pack_csi(csi)))
    np.testing.assert_allclose(back, csi, rtol=2**-11)


def test_all_zero_csi_packs_to_zero() -> None:
    packed, scale = pack_csi(np.zeros((1, 2, 3), np.complex64))
    assert not packed.any()
    assert scale == 1


def test_csi_at_the_ends_of_single_precision_packs_without_overflow() -> None:
    csi = np.array([[[1e-45 + 0j]], [[3e38 + 3e38j]]], dtype=np.complex64)
    packed, scale = pack_csi(csi)
    assert np.isfinite(packed).all()
    assert (scale > 0).all()


def test_of_a_large_cell_each_part_is_packed_as_it_is_alone() -> None:
    random = np.random.default_rng(0)
    csi = (random.normal(size=(2500, 2, 3)) + 1j * random.normal(size=(2500, 2, 3))).astype(np.complex64)
    packed, scale = pack_csi(csi)
    for row in (0, 1023, 1024, 2499):
        alone, its_scale = pack_csi(csi[[row]])
        np.testing.assert_array_equal(packed[row], alone[0])
        assert scale[row] == its_scale[0]


def test_some_of_the_packed_are_unpacked_alone() -> None:
    csi = (np.arange(24).reshape(6, 2, 2) + 1j).astype(np.complex64)
    some = PackedCsi(*pack_csi(csi))
    assert len(some) == 6
    np.testing.assert_array_equal(some[np.array([5, 0, 5])], csi[[5, 0, 5]])


def test_the_largest_component_is_found_be_it_negative_or_imaginary_and_nan_wins() -> None:
    csi = np.zeros((4, 2, 2), np.complex64)
    csi[0, 1, 0], csi[1, 0, 1], csi[2] = -3 + 2j, 1 - 5j, [[np.nan, 0], [0, 9]]
    np.testing.assert_array_equal(largest_components(csi), [3, 5, np.nan, 0])

from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from reference_db.half_csi import CsiPart, PackedCsi, as_complex, largest_components, pack_csi, unpack_csi

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
def test_packing_unpacked_csi_changes_no_bit(values: NDArray[np.float32], gain: float) -> None:
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


def test_chunks_of_a_large_cell_are_packed_like_single_snapshots() -> None:
    random = np.random.default_rng(0)
    csi = (random.normal(size=(2500, 2, 3)) + 1j * random.normal(size=(2500, 2, 3))).astype(np.complex64)
    packed, scale = pack_csi(csi)
    for row in (0, 1023, 1024, 2499):
        alone, its_scale = pack_csi(csi[[row]])
        np.testing.assert_array_equal(packed[row], alone[0])
        assert scale[row] == its_scale[0]


CSI = (np.arange(24).reshape(6, 2, 2) * 7 + 1j).astype(np.complex64)
PACKED, SCALE = pack_csi(CSI)


def test_some_rows_can_be_unpacked() -> None:
    some = PackedCsi([CsiPart(PACKED, SCALE)])
    assert len(some) == 6
    np.testing.assert_array_equal(some[np.array([5, 0, 5])], CSI[[5, 0, 5]])


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    shape=st.sampled_from([(0,), (1,), (40,), (3, 7), ()]),
    seed=st.integers(0, 2**32),
)
def test_several_parts_are_unpacked_like_one(sizes: list[int], shape: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    parts, whole = [], []
    for size in sizes:
        csi = random.normal(size=(size, 2, 3, 2)).astype(np.float32)
        packed, scale = pack_csi(as_complex(csi * 10 ** random.uniform(-6, 6)))
        kept = np.flatnonzero(random.uniform(size=size) < 0.7) if random.uniform() < 0.5 else None
        parts.append(CsiPart(packed, scale, kept))
        whole.append(unpack_csi(packed, scale)[slice(None) if kept is None else kept])
    everything, together = np.concatenate(whole), PackedCsi(parts)
    assert len(together) == len(everything)
    if len(everything):
        rows = random.integers(0, len(everything), shape)
        pairs = together.pairs(rows)
        assert pairs.dtype == np.float32
        np.testing.assert_array_equal(pairs, everything[rows])
        np.testing.assert_array_equal(together[rows], as_complex(everything[rows]))


@pytest.mark.parametrize("row", [-1, 4, 12])
@pytest.mark.parametrize(
    "parts", [[CsiPart(PACKED[:4], SCALE[:4])], [CsiPart(PACKED, SCALE, np.arange(3)), CsiPart(PACKED[:1], SCALE[:1])]]
)
def test_a_row_out_of_range_is_refused(parts: list[CsiPart], row: int) -> None:
    with pytest.raises(IndexError):
        PackedCsi(parts).pairs(np.array([0, row]))


def test_mapped_files_do_not_count_as_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "csi.npy", PACKED)
    with (tmp_path / "csi.npy").open("rb") as file:
        data = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
    from_buffer = np.frombuffer(data[-PACKED.nbytes :], np.float16).reshape(PACKED.shape)
    for mapped in (np.load(tmp_path / "csi.npy", mmap_mode="r"), from_buffer):
        csi = PackedCsi([CsiPart(PACKED, SCALE), CsiPart(mapped, SCALE)])
        assert csi.resident_bytes == PACKED.nbytes + 2 * SCALE.nbytes
        np.testing.assert_array_equal(csi[np.array([11, 1])], CSI[[5, 1]])


def test_the_largest_component_may_be_negative_imaginary_or_nan() -> None:
    csi = np.zeros((4, 2, 2), np.complex64)
    csi[0, 1, 0], csi[1, 0, 1], csi[2] = -3 + 2j, 1 - 5j, [[np.nan, 0], [0, 9]]
    np.testing.assert_array_equal(largest_components(csi), [3, 5, np.nan, 0])

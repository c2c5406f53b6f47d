import numpy as np
import pytest

from fingerpost.wire import Csi
from service import errors
from service.web.csi import decode_csi
from service.web.media import validated


@pytest.fixture
def channel() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((3, 5)) + 1j * rng.standard_normal((3, 5))).astype("<c8")


def test_complex64_comes_back_as_pairs(channel: np.ndarray) -> None:
    pairs = decode_csi(Csi(encoding="complex64", shape=[3, 5], data=channel.tobytes()))
    assert pairs.dtype == np.float32
    np.testing.assert_array_equal(pairs[..., 0] + 1j * pairs[..., 1], channel)


def test_complex64_is_not_copied(channel: np.ndarray) -> None:
    data = channel.tobytes()
    assert np.shares_memory(decode_csi(Csi(encoding="complex64", shape=[3, 5], data=data)), np.frombuffer(data, "<f4"))


@pytest.mark.parametrize("power", [1.01e-30, 1e-24, 1e17, 0.99e18])
def test_csi_from_the_faintest_to_the_loudest_that_float32_takes(power: float) -> None:
    wave = np.full((3, 5), np.sqrt(power) * (1 + 1j), "<c8")
    pairs = decode_csi(Csi(encoding="complex64", shape=[3, 5], data=wave.tobytes()))
    np.testing.assert_array_equal(pairs[..., 0] + 1j * pairs[..., 1], wave)


@pytest.mark.parametrize("power", [0.99e-30, 1.01e18, 1e40, 1e-60])
def test_csi_beyond_them_is_refused(power: float) -> None:
    wave = np.full((3, 5), np.sqrt(power) * (1 + 1j), "<c8")
    with pytest.raises(errors.CsiOutOfRange):
        decode_csi(Csi(encoding="complex64", shape=[3, 5], data=wave.tobytes()))


def test_complex32_is_multiplied_by_its_scale(channel: np.ndarray) -> None:
    halves = np.stack([channel.real, channel.imag], axis=-1).astype("<f2")
    pairs = decode_csi(Csi(encoding="complex32", shape=[3, 5], data=halves.tobytes(), scale=1e-7))
    np.testing.assert_allclose(pairs[..., 0] + 1j * pairs[..., 1], 1e-7 * channel, rtol=2e-3)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 1e300])
def test_scale_that_float32_does_not_survive_is_refused(channel: np.ndarray, scale: float) -> None:
    fields = {"encoding": "complex64", "shape": [3, 5], "data": channel.tobytes(), "scale": scale}
    with pytest.raises((errors.CsiOutOfRange, errors.FieldIncorrect)):
        decode_csi(validated(fields, Csi))

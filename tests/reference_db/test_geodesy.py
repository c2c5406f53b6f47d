from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Proj

from reference_db import LocalFrame


@given(
    origin=st.tuples(st.floats(-85, 85), st.floats(-180, 180)),
    east=st.floats(-5000, 5000),
    north=st.floats(-5000, 5000),
)
def test_a_round_trip_is_exact_to_a_millimetre(origin: tuple[float, float], east: float, north: float) -> None:
    frame = LocalFrame(*origin)
    back = frame.to_local(*frame.to_wgs84(east, north))
    np.testing.assert_allclose(back, (east, north), atol=1e-3)


@given(
    origin=st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
    east=st.floats(-50_000, 50_000),
    north=st.floats(-50_000, 50_000),
)
def test_the_projection_is_proj_s_azimuthal_equidistant_one(
    origin: tuple[float, float], east: float, north: float
) -> None:
    crs = {"proj": "aeqd", "lat_0": origin[0], "lon_0": origin[1], "ellps": "WGS84"}
    longitude, latitude = LocalFrame(*origin).to_wgs84(east, north)[::-1]
    np.testing.assert_allclose(Proj(crs)(longitude, latitude), (east, north), atol=1e-3)


def test_a_degree_of_latitude_at_the_equator_has_its_known_length() -> None:
    # The meridian arc of WGS84 from 0 to 1 degree.
    assert LocalFrame(0.0, 11.0).to_local(1.0, 11.0) == pytest.approx((0, 110_574.3886), abs=1e-3)


def test_a_degree_of_longitude_at_the_equator_has_its_known_length() -> None:
    # pi / 180 times the equatorial radius, 6 378 137 m.
    assert LocalFrame(0.0, 0.0).to_local(0.0, 1.0) == pytest.approx((111_319.4908, 0), abs=1e-3)


def test_east_is_east_and_north_is_north() -> None:
    latitude, longitude = LocalFrame(43.77, 11.25).to_wgs84(100.0, 200.0)
    assert latitude > 43.77
    assert longitude > 11.25


def test_the_base_station_is_the_origin() -> None:
    assert LocalFrame(43.77, 11.25).to_local(43.77, 11.25) == pytest.approx((0, 0), abs=1e-6)


def test_a_cell_on_the_date_line_stays_in_one_piece() -> None:
    east, _ = LocalFrame(10.0, 179.999).to_local(10.0, -179.999)
    assert east == pytest.approx(219, abs=1)


def test_arrays_are_converted_like_single_positions() -> None:
    frame = LocalFrame(43.77, 11.25)
    latitudes, longitudes = np.array([43.76, 43.78]), np.array([11.24, 11.27])
    east, north = frame.to_local(latitudes, longitudes)
    assert east.flags.c_contiguous
    assert north.flags.c_contiguous
    for row in range(2):
        assert frame.to_local(float(latitudes[row]), float(longitudes[row])) == (east[row], north[row])


@pytest.mark.parametrize("place", [(90.1, 0.0), (0.0, 180.1), (float("nan"), 0.0), (0.0, float("inf"))])
def test_a_place_off_the_globe_is_refused(place: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="latitude"):
        LocalFrame(0.0, 0.0).to_local(*place)


def test_metres_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        LocalFrame(0.0, 0.0).to_wgs84(float("nan"), 0.0)


def test_threads_may_share_a_frame() -> None:
    frame = LocalFrame(43.77, 11.25)
    places = np.random.default_rng(0).uniform(-1000, 1000, (200, 2))
    expected = [frame.to_wgs84(*place) for place in places.tolist()]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda place: frame.to_wgs84(*place), places.tolist())) == expected


def moved(first: tuple[float, float], second: tuple[float, float], points: np.ndarray) -> np.ndarray:
    """Points `[n, 2]` of the second origin's frame in the first one's, by the place of the frames."""
    east, north, turn = LocalFrame(*first).place(LocalFrame(*second))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(points @ rotation.T + (east, north))


def by_proj(first: tuple[float, float], second: tuple[float, float], points: np.ndarray) -> np.ndarray:
    """The same by PROJ's own projections of both frames."""
    here, there = (Proj({"proj": "aeqd", "lat_0": lat, "lon_0": lon, "ellps": "WGS84"}) for lat, lon in (first, second))
    return np.stack(here(*there(*points.T, inverse=True)), axis=1)


@given(
    origin=st.tuples(st.floats(-75, 75), st.floats(-180, 180)),
    distance=st.floats(0, 20_000),
    bearing=st.floats(-np.pi, np.pi),
    seed=st.integers(0, 1000),
)
def test_a_point_moves_from_one_frame_into_another(
    origin: tuple[float, float], distance: float, bearing: float, seed: int
) -> None:
    other = LocalFrame(*origin).to_wgs84(distance * np.sin(bearing), distance * np.cos(bearing))
    points = np.random.default_rng(seed).uniform(-700, 700, (8, 2))
    error = np.linalg.norm(moved(origin, other, points) - by_proj(origin, other, points), axis=1)
    assert error.max() < (3e-3 if distance > 2000 else 1e-4)


def test_frames_are_turned_to_each_other_by_the_convergence_of_their_meridians() -> None:
    first, second = (43.77, 11.25), (43.77, 11.29)  # 3.2 km
    east, north, turn = LocalFrame(*first).place(LocalFrame(*second))
    assert turn == pytest.approx(np.radians(0.04) * np.sin(np.radians(43.77)), rel=1e-3)
    # Without the turn, a user 300 m from the second base station would be 14 cm wrong in the first one's frame.
    users = np.array([[0.0, 300.0], [300.0, 0.0], [-200.0, 250.0]])
    right = by_proj(first, second, users)
    assert np.linalg.norm(moved(first, second, users) - right, axis=1).max() < 1e-3
    assert np.linalg.norm(users + np.array([east, north]) - right, axis=1).min() > 0.14
    assert LocalFrame(*second).place(LocalFrame(*first)).turn == pytest.approx(-turn, rel=1e-3)


def test_a_frame_lies_in_itself_at_its_origin_and_is_not_turned() -> None:
    frame = LocalFrame(43.77, 11.25)
    assert frame.place(frame) == pytest.approx((0.0, 0.0, 0.0), abs=1e-7)

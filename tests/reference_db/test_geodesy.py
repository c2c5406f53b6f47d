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

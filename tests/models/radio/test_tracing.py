"""Against Sionna RT itself: what the path tables promise about channels, repeatability and resumption."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from models.cli import app
from models.radio.bound import image_motion
from models.radio.channel import departure_directions, subcarrier_offsets, synthesise
from models.radio.city import CarrierNotModelled, City, TracingUnavailable, single_at_most
from models.radio.front_end import Radio
from models.radio.path_table import PER_PATH, PathTable
from models.radio.siting import Site, draw_site, draw_users
from models.radio.street_changes import StreetState, Traffic, draw_clear_users, furnish_street
from models.radio.tracing import (
    BadCellRange,
    OtherCarrier,
    band_folder,
    parse_cells,
    shard_of,
    table_path,
    trace_cells,
    trace_walks,
    walks_path,
)
from models.radio.walks import draw_walks
from reference_db.cell import AntennaArray
from reference_db.path_features import SPEED_OF_LIGHT

CARRIER = 3.5e9

USERS_AT_ONCE = 40  # the usual 250 take gigabytes and minutes

# `fingerpost-train`. With "dies" it kills itself as soon as its first part is on the disk.
TRACER = f"""
import os, signal, sys
import models.radio.city, models.radio.tracing
from models.cli import app
from models.radio.path_table import PathTable

models.radio.city.USERS_AT_ONCE = models.radio.tracing.USERS_AT_ONCE = {USERS_AT_ONCE}
save, dies = PathTable.save, sys.argv.pop(1) == "dies"

def save_and_die(table, path):
    save(table, path)
    os.kill(os.getpid(), signal.SIGKILL)

if dies:
    PathTable.save = save_and_die
app()
"""


@pytest.fixture(scope="module", autouse=True)
def few_users_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module in ("city", "tracing"):
            monkeypatch.setattr(f"models.radio.{module}.USERS_AT_ONCE", USERS_AT_ONCE)
        yield


@pytest.fixture(scope="module")
def etoile(few_users_at_once: None) -> City:
    try:
        return City("etoile")
    except TracingUnavailable as missing:
        pytest.skip(str(missing))


def test_cell_ranges_name_cities_and_seeds() -> None:
    assert parse_cells(["munich:0-2", "etoile:7"]) == [
        ("munich", 0),
        ("munich", 1),
        ("munich", 2),
        ("etoile", 7),
    ]
    for bad in ("munich", "atlantis:0-3", "munich:a-b", "munich:1-", "munich:5-3"):
        with pytest.raises(BadCellRange):
            parse_cells([bad])


def test_shards_are_disjoint_and_cover_all_cells() -> None:
    cells = parse_cells(["munich:0-10"])
    shards = [shard_of(cells, f"{i}/3") for i in range(3)]
    assert sorted(cell for shard in shards for cell in shard) == cells
    with pytest.raises(BadCellRange):
        shard_of(cells, "3/3")


class Observation:
    """Sionna's own scene, in which a transmitter has a real array. Users stand where the path table has them."""

    def __init__(self, site: Site, users: NDArray[np.float64]) -> None:
        from sionna import rt

        self._rt, self._scene = rt, rt.load_scene(rt.scene.etoile, merge_shapes=True)
        self._scene.frequency = site.carrier_frequency
        self._scene.rx_array = rt.PlanarArray(num_rows=1, num_cols=1, pattern="iso", polarization="V")
        self._scene.add(rt.Transmitter("bs", position=list(site.bs), orientation=[site.yaw, 0.0, 0.0]))
        for number, position in enumerate(users):
            self._scene.add(rt.Receiver(f"user-{number}", position=position.tolist()))

    def observe(
        self, array: AntennaArray, pattern: str = "iso", synthetic: bool = True, depth: int = 5
    ) -> NDArray[np.complex64]:
        """CSI of 32 subcarriers over 40 MHz in our order of antennas, [users, antennas, subcarriers]."""
        polarisation = "V" if array.polarisations == 1 else "cross"
        self._scene.tx_array = self._rt.PlanarArray(
            num_rows=array.rows, num_cols=array.columns, pattern=pattern, polarization=polarisation
        )
        paths = self._rt.PathSolver(deterministic=True)(
            self._scene,
            max_depth=depth,
            samples_per_src=100_000 if synthetic else 20_000,
            max_num_paths_per_src=10_000_000 if synthetic else 100_000,  # of each element, and memory is theirs
            synthetic_array=synthetic,
        )
        csi = paths.cfr(
            frequencies=subcarrier_offsets(32, 40e6).astype(np.float32), normalize_delays=False, out_type="numpy"
        )[:, 0, 0, :, 0, :]
        # Sionna: column by column, row 0 at the top, the polarisation of -45 degrees before that of +45 degrees.
        row, column = np.divmod(np.arange(array.rows * array.columns), array.columns)
        theirs = csi.reshape(len(csi), array.polarisations, array.rows * array.columns, -1)[:, ::-1]
        return theirs[:, :, column * array.rows + array.rows - 1 - row].reshape(csi.shape)


def relative_errors(ours: NDArray[np.complex64], theirs: NDArray[np.complex64]) -> NDArray[np.float64]:
    return np.linalg.norm(ours - theirs, axis=(1, 2)) / np.linalg.norm(theirs, axis=(1, 2))


@pytest.mark.raytracing
def test_csi_from_the_path_table_equals_sionnas_own(etoile: City) -> None:
    site = draw_site(etoile, "etoile", 900, CARRIER)
    users = draw_users(etoile, site, USERS_AT_ONCE)
    table = etoile.trace(site, users)
    sionna = Observation(site, users)
    for array, pattern in (
        (AntennaArray(rows=1, columns=32), "iso"),
        (AntennaArray(rows=4, columns=8), "iso"),
        (AntennaArray(rows=4, columns=8), "tr38901"),
        (AntennaArray(rows=2, columns=8, polarisations=2), "tr38901"),
    ):
        radio = Radio(
            array=array,
            subcarriers=32,
            bandwidth=40e6,
            pattern="tr38901" if pattern == "tr38901" else "isotropic",
        )
        errors = relative_errors(synthesise(table, radio, site.yaw), sionna.observe(array, pattern))
        assert errors.max() < 1e-4, (array, pattern)


@pytest.mark.raytracing
@pytest.mark.parametrize(
    "array", [AntennaArray(rows=1, columns=32), AntennaArray(rows=4, columns=8)], ids=["linear", "planar"]
)
def test_spherical_wavefronts_are_those_of_paths_traced_to_each_element(
    etoile: City, array: AntennaArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sionna traces every element by itself, so that nothing but geometry makes the wavefront."""
    monkeypatch.setattr("models.radio.city.MAX_DEPTH", 1)
    site = draw_site(etoile, "etoile", 900, CARRIER)
    users = draw_users(etoile, site, 200)
    in_sight = etoile.visible(np.array(site.bs), users)
    usual = users[in_sight & (np.linalg.norm(users - site.bs, axis=1) > 30)][:6]
    table = etoile.trace(site, usual)
    theirs = Observation(site, usual).observe(array, synthetic=False, depth=1)
    plane, spherical = (
        relative_errors(
            synthesise(table, Radio(array=array, subcarriers=32, bandwidth=40e6, wavefronts=kind), site.yaw), theirs
        )
        for kind in ("plane", "spherical")
    )
    # Two users have an echo that reaches a part of the elements only: the wall ends there.
    whole = np.argsort(spherical)[:4]
    assert (spherical[whole] < 0.02).all(), spherical
    assert (plane > 3 * spherical)[whole].all(), plane
    assert (spherical < 1.01 * plane).all()


@pytest.mark.raytracing
def test_direct_paths_at_another_carrier_are_those_that_are_traced_at_it(etoile: City) -> None:
    low = draw_site(etoile, "etoile", 900, CARRIER)
    users = draw_users(etoile, low, 20)
    traced, at_28 = (only_direct(etoile.trace(site, users)) for site in (low, replace(low, carrier_frequency=28e9)))
    assert traced.reached.sum() > 10
    radio = Radio(array=AntennaArray(rows=1, columns=16), subcarriers=32, bandwidth=100e6, wavefronts="spherical")
    ours, theirs = (synthesise(table, radio, low.yaw, 28e9)[traced.reached] for table in (traced, at_28))
    assert relative_errors(ours, theirs).max() < 0.01


@pytest.mark.raytracing
def test_image_sources_move_with_their_users_as_the_bound_says(etoile: City) -> None:
    site = draw_site(etoile, "etoile", 900, CARRIER)
    users = draw_users(etoile, site, 15)
    step = np.array([0.06, 0.08, 0.0])
    before, after = etoile.trace(site, users), etoile.trace(site, users + step)
    sources = [SPEED_OF_LIGHT * one.delay[:, None] * departure_directions(one) for one in (before, after)]
    expected = image_motion(before) @ step[:2]
    off, reflections = [], []
    for user in range(len(users)):
        there = np.arange(after.offsets[user], after.offsets[user + 1])
        for path in range(before.offsets[user], before.offsets[user + 1]):
            same = there[(after.interactions[there] == before.interactions[path]).all(axis=1)]
            moved = sources[1][same] - sources[0][path]
            if len(same) and np.linalg.norm(moved, axis=1).min() < 0.15:  # else the path ends at the edge of a wall
                nearest = moved[np.linalg.norm(moved, axis=1).argmin(), :2]
                off.append(np.linalg.norm(nearest - expected[path]))
                reflections.append((before.interactions[path] == 1).sum())
    assert len(off) > 0.9 * len(before.delay)
    assert len(set(reflections)) > 3
    assert np.quantile(off, 0.99) < 0.002


def only_direct(table: PathTable) -> PathTable:
    direct = ~table.interactions.any(axis=1)
    counted = np.concatenate([[0], np.cumsum(direct)])
    columns = {name: getattr(table, name)[direct] for name in PER_PATH}
    return replace(table, offsets=counted[table.offsets], horizontal_gain=None, **columns)


@pytest.mark.raytracing
def test_sites_of_the_second_family_see_little_of_their_street(etoile: City) -> None:
    for seed in (900, 901):
        site = draw_site(etoile, "etoile-nlos", seed, CARRIER)
        seen = etoile.visible(np.array(site.bs), draw_users(etoile, site, 1000)).mean()
        assert 0.1 - 0.06 < seen < 0.4 + 0.06


@pytest.mark.raytracing
def test_the_site_of_a_traced_table_is_still_drawn_for_its_seed(etoile: City, table: PathTable) -> None:
    assert json.dumps(draw_site(etoile, "etoile", 900, CARRIER).to_json()) == json.dumps(table.site.to_json())


@pytest.mark.raytracing
@pytest.mark.usefixtures("etoile")
def test_the_same_seed_gives_the_same_file_also_after_a_kill(tmp_path: Path) -> None:
    users = USERS_AT_ONCE + 10
    (whole,) = trace_cells([("etoile", 901)], tmp_path / "whole", users, CARRIER, threads=None)

    killed = tmp_path / "killed"
    words = ["scenes", "trace", "etoile:901", "--out", str(killed), "--users", str(users)]
    process = subprocess.run([sys.executable, "-c", TRACER, "dies", *words], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert [path.name for path in killed.rglob("*.safetensors")] == ["0000000.safetensors"]
    subprocess.run([sys.executable, "-c", TRACER, "goes on", *words], check=True, capture_output=True)

    assert (killed / whole.name).read_bytes() == whole.read_bytes()
    assert [path.name for path in killed.iterdir()] == [whole.name]
    assert len(PathTable.load(whole).users) == users


@pytest.mark.raytracing
def test_parts_from_a_run_with_other_users_are_traced_again(etoile: City, table: PathTable, tmp_path: Path) -> None:
    """The folder already has a part with fewer users than the run asks for."""
    parts = tmp_path / "etoile-0900.paths.parts"
    parts.mkdir()
    users = draw_users(etoile, table.site, USERS_AT_ONCE)
    etoile.trace(table.site, users[:7]).save(parts / "0000000.safetensors")
    (path,) = trace_cells([("etoile", 900)], tmp_path, USERS_AT_ONCE, CARRIER, threads=None)
    assert len(PathTable.load(path).users) == USERS_AT_ONCE
    for path_table in (PathTable.load(path), table):  # the seed determines the positions of users
        users = draw_users(etoile, table.site, len(path_table.users)) - np.array(table.site.bs)
        np.testing.assert_array_equal(path_table.users, users.astype(np.float32))


@pytest.mark.raytracing
def test_the_last_carrier_of_every_material_can_be_traced_and_the_next_is_refused(etoile: City) -> None:
    site = draw_site(etoile, "etoile", 900, 60e9)
    users = draw_users(etoile, site, 2)
    assert etoile.trace(site, users).site.carrier_frequency == 60e9
    with pytest.raises(CarrierNotModelled, match=r"61 GHz cannot be traced here: .*marble"):
        etoile.trace(replace(site, carrier_frequency=61e9), users)


@pytest.mark.parametrize("carrier", [2.6e9, 3.5e9, 6e9, 28e9])
def test_usual_carriers_are_exact_in_single_precision(carrier: float) -> None:
    assert single_at_most(carrier) == carrier


def test_a_carrier_is_never_rounded_up() -> None:
    assert 60e9 - 4096 <= single_at_most(60e9) <= 60e9


@pytest.mark.raytracing
def test_streets_of_a_hilly_city_follow_its_terrain() -> None:
    try:
        city = City("san_francisco")
    except TracingUnavailable as missing:
        pytest.skip(str(missing))
    site = draw_site(city, "san_francisco", 0, CARRIER)
    users = draw_users(city, site, 200)
    assert np.ptp(users[:, 2]) > 1.0
    above = users + np.array([0.0, 0.0, 300.0])
    assert all(city.visible(high, user[None])[0] for high, user in zip(above[:20], users[:20], strict=True))


@pytest.mark.raytracing
def test_the_same_users_are_traced_at_several_carriers(
    etoile: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.radio.city.USERS_AT_ONCE", 6)  # tracing is as slow as if there were so many
    words = ["scenes", "trace", "etoile:200", "--users", "6", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*words, "--carrier-ghz", "2.6", "--carrier-ghz", "28"])
    assert done.exit_code == 0, done.output
    low, high = (PathTable.load(table_path(band_folder(tmp_path, hz), etoile.name, 200)) for hz in (2.6e9, 28e9))
    np.testing.assert_array_equal(low.users, high.users)
    assert (low.site.carrier_frequency, high.site.carrier_frequency) == (2.6e9, 28e9)
    strongest = [np.maximum.reduceat(np.abs(t.gain), t.offsets[:-1][t.reached]).max() for t in (low, high)]
    assert strongest[0] / strongest[1] == pytest.approx(28 / 2.6, rel=0.3)  # by the wavelength, in free space


@pytest.mark.raytracing
def test_the_same_users_are_traced_from_several_stations(
    etoile: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.radio.city.USERS_AT_ONCE", 6)
    words = ["scenes", "trace", "etoile:200", "--users", "6", "--out", str(tmp_path), "--stations", "2"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    paths = [table_path(tmp_path, etoile.name, 200, station) for station in (0, 1)]
    assert [path.name for path in paths] == ["etoile-0200.paths.safetensors", "etoile-0200-1.paths.safetensors"]
    assert all(str(path) in done.output for path in paths)
    first, second = map(PathTable.load, paths)
    assert (first.site.station, second.site.station) == (0, 1)
    assert first.site.bs != second.site.bs
    places = [table.users + np.array(table.site.bs) for table in (first, second)]
    np.testing.assert_allclose(*places, atol=1e-3)
    assert not np.array_equal(first.gain, second.gain)
    alone = tmp_path / "alone"
    (path,) = trace_cells([("etoile", 200)], alone, 6, CARRIER, threads=None)
    assert path.read_bytes() == paths[0].read_bytes()  # further stations change nothing at the first


@pytest.mark.raytracing
def test_a_furnished_street_has_the_same_site_and_other_paths(etoile: City, tmp_path: Path) -> None:
    words = ["scenes", "trace", "etoile:900", "--users", "20", "--skip-users", "30", "--out", str(tmp_path)]
    tables = {}
    for state in (*StreetState, Traffic(3)):
        done = CliRunner().invoke(app, [*words, "--street", str(state)])
        assert done.exit_code == 0, done.output
        path = tmp_path / f"etoile-0900-{state}.paths.safetensors"
        assert str(path) in done.output
        tables[state] = PathTable.load(path)
    bare = draw_site(etoile, "etoile", 900, CARRIER)
    for state, table in tables.items():
        users = draw_clear_users(etoile, bare, 50, state)[30:]
        assert table.site == replace(bare, street=str(state))
        assert table.site.name == "etoile-0900"  # it is the same cell
        np.testing.assert_array_equal(table.users, (users - np.array(bare.bs)).astype(np.float32))
    gains = {table.gain.tobytes() for table in tables.values()} | {etoile.trace(bare, users).gain.tobytes()}
    assert len(gains) == 5
    cars = furnish_street(etoile, bare, StreetState.CARS)
    etoile.furnish(cars)
    height, open_street = etoile.ground(np.array([box.centre[:2] for box in cars]))
    etoile.furnish([])
    assert not open_street.any()
    np.testing.assert_allclose(height, [box.centre[2] + box.size[2] / 2 for box in cars], atol=0.01)
    assert etoile.ground(np.array([box.centre[:2] for box in cars]))[1].all()  # bare again


def test_a_table_that_is_there_stays_and_one_of_another_carrier_is_refused(
    tmp_path: Path, table: PathTable, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table_path(tmp_path, "etoile", 900)
    table.save(path)
    content = path.read_bytes()
    cells = [("etoile", 900)]
    assert list(trace_cells(cells, tmp_path, 30, CARRIER, 1)) == [path]
    assert f"is there already, with {len(table.users)} users; remove it to trace 30" in capsys.readouterr().err
    with pytest.raises(OtherCarrier, match=r"is there already, at 3\.5 GHz"):
        list(trace_cells(cells, tmp_path, 30, 28e9, 1))
    assert path.read_bytes() == content


@pytest.mark.raytracing
def test_walks_are_traced_place_by_place(tmp_path: Path, etoile: City) -> None:
    (path,) = trace_walks([("etoile", 900)], tmp_path, 2, CARRIER, 1)
    assert path == walks_path(tmp_path, "etoile", 900)
    traced, site = PathTable.load(path), draw_site(etoile, "etoile", 900, CARRIER)
    assert traced.site == site
    expected = draw_walks(etoile, site, 2).reshape(-1, 3) - np.array(site.bs)
    np.testing.assert_array_equal(traced.users, expected.astype(np.float32))

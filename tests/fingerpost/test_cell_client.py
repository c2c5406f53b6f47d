"""The operators' requests of the clients, with the real service and a network that answers the middle."""

import inspect
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fingerpost import (
    AsyncCellClient,
    AsyncClient,
    AsyncTrack,
    CellArea,
    CellClient,
    CellCorrection,
    CellDescription,
    CellRetention,
    Client,
    Fingerprints,
    NoAnswer,
    Refused,
    Selection,
    Track,
    build_truth,
)
from fingerpost.running import AsyncRunner, BlockingRunner
from reference_db import read_fingerprint_file
from service.commands.cli import app
from tests.fingerpost.scripted import Scripted, answering, scripted
from tests.service.serving import serving
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS
from tests.service.tiny_service import make_tiny_settings
from tests.service.updates.wire import DESCRIPTION

NEW = CellDescription.model_validate(DESCRIPTION)
MEASURED = datetime(2026, 3, 1, tzinfo=UTC)
EAST = Selection(area=CellArea(west=9.5, south=-1, east=100, north=1))


@pytest.fixture(scope="module")
def tiny_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running service with the cell `c`. Smaller cells are published untried: what trials cost is not asked here."""
    with serving(make_tiny_settings(tmp_path_factory.mktemp("tiny"))) as address:
        yield address


def on_a_line(first: int, last: int) -> Fingerprints:
    n = last - first
    csi = np.random.default_rng(first).uniform(0.5, 1, (n, ANTENNAS, SUBCARRIERS)).astype(complex)
    positions = np.stack([np.arange(first, last), np.zeros(n)], axis=1)
    return Fingerprints(csi, positions, times=[MEASURED + timedelta(seconds=i) for i in range(first, last)])


def test_a_cell_is_created_grown_corrected_thinned_rolled_back_and_deleted(tiny_url: str) -> None:
    with Client(tiny_url) as client:
        cell = client.cell("life")
        report = cell.preview_replacement(on_a_line(0, 10), NEW)
        assert (report.fingerprints, report.spacing, report.would_publish) == (10, 1.0, True)
        created = cell.create(NEW, on_a_line(0, 10), author="planner", note="drive test")
        assert cell.preview_append(on_a_line(10, 16)).version == created.version
        assert (created.fingerprints, created.change.author, created.change.note) == (10, "planner", "drive test")
        assert CellDescription.model_validate(created.model_dump(include=set(CellDescription.model_fields))) == NEW

        grown = cell.append(on_a_line(10, 16), if_match=created.version)
        assert grown.fingerprints == 16
        with pytest.raises(Refused, match="PRECONDITION_FAILED"):
            cell.append(on_a_line(16, 18), if_match=created.version)
        assert cell.correct(CellCorrection(height=25.0)).height == 25.0
        newest = CellRetention(max_fingerprints=12)
        assert (preview := cell.preview_retention(newest)).selected == preview.too_many == 4
        assert cell.set_retention(newest).fingerprints == 12
        assert cell.set_model("mateformer").model.policy == "mateformer"

        assert cell.preview_deletion(EAST).selected == 6
        thinned = cell.delete_fingerprints(EAST)
        assert thinned.fingerprints == 6
        changes = cell.diff(2, thinned.version)
        assert (changes.removed.count, [one.field for one in changes.description]) == (10, ["height"])
        back = cell.roll_back(1, note="too thin")
        assert (back.fingerprints, back.height) == (10, NEW.height)
        assert cell.show(grown.version).fingerprints == 16

        preview = cell.preview_forgetting(EAST)
        assert cell.forget_fingerprints(EAST).removed_versions == preview.versions
        assert [one.number for one in cell.iterate_versions(page_size=1)] == [8, 7, 6, 1]
        assert [one.cell_id for one in client.list_cells().cells] == ["c", "life"]
        with pytest.raises(Refused, match=r"CONDITION_MISSING.*force"):
            cell.delete()
        assert cell.delete(if_match=cell.show().version).versions == [1, 6, 7, 8]
        with pytest.raises(Refused, match="CELL_NOT_FOUND"):
            cell.show()


def test_a_change_that_is_sent_twice_is_made_once(tiny_url: str) -> None:
    with Client(tiny_url) as client:
        cell = client.cell("twice")
        created = cell.create(NEW, on_a_line(0, 10))
        first = cell.append(on_a_line(10, 12), idempotency_key="night of 2026-03-01")
        assert cell.append(on_a_line(10, 12), idempotency_key="night of 2026-03-01") == first
        with pytest.raises(Refused, match="PRECONDITION_FAILED"):
            cell.create(NEW)
        assert [one.version for one in cell.iterate_versions()] == [first.version, created.version]


def test_a_file_is_sent_again_as_the_same_change_after_a_broken_connection(tiny_url: str, tmp_path: Path) -> None:
    file = tmp_path / "c.npz"
    file.write_bytes(on_a_line(0, 3).encode())
    with Client(tiny_url) as client:
        answer = client.cell("c").show()
    with scripted(None, 503, answer.model_dump_json().encode()) as url, Client(url) as client:
        assert client.cell("c").append(file, note="again") == answer
    (seen,) = {tuple(sorted(one.items())) for one in Scripted.seen}
    assert dict(seen)["content-length"] == str(file.stat().st_size)
    assert dict(seen)["idempotency-key"]


def test_a_whole_version_is_listed_page_by_page_though_others_change_the_cell(tiny_url: str) -> None:
    with Client(tiny_url) as client:
        cell = client.cell("pages")
        cell.create(NEW, on_a_line(0, 10))
        fingerprints = cell.iterate_fingerprints(page_size=4)
        first = next(fingerprints)
        cell.append(on_a_line(10, 15))
        listed = [first, *fingerprints]
        assert sorted(one.x for one in listed) == list(range(10))
        assert {one.time for one in listed} == {MEASURED + timedelta(seconds=i) for i in range(10)}
        assert cell.list_fingerprints(limit=4).count == 15
        assert cell.list_versions(limit=1).next == 2


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_an_exported_file_makes_the_same_cell_again(tiny_url: str, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"copy{suffix}"
    with Client(tiny_url) as client:
        cell = client.cell(f"copied{suffix}")
        created = cell.create(NEW, on_a_line(0, 10))
        assert cell.export(file) == created.version
        with pytest.raises(FileExistsError, match="overwrite"):
            cell.export(file)
        cell.append(on_a_line(10, 12))
        assert cell.export(file, 1, overwrite=True) == created.version
        assert len(read_fingerprint_file(file)[1].csi) == 10
        assert cell.replace(file).fingerprints == 10
        with pytest.raises(ValueError, match="describes its cell"):
            cell.replace(file, NEW)
        with pytest.raises(ValueError, match="neither in"):
            cell.export(tmp_path / "copy.csv")
        with pytest.raises(Refused, match="CELL_NOT_FOUND"):
            client.cell("nowhere").export(tmp_path / f"none{suffix}")
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


def test_a_description_that_was_answered_makes_another_cell(tiny_url: str) -> None:
    with Client(tiny_url) as client:
        described = client.cell("c").show()
        assert client.cell("twin").create(described).fingerprints == 0
        degrees = Fingerprints(on_a_line(0, 5).csi, latitudes=np.full(5, 43.7), longitudes=11.2 + np.arange(5) * 1e-5)
        placed = client.cell("twin").append(degrees)
        assert placed.fingerprints == 5
        (first, *_) = client.cell("twin").iterate_fingerprints()
        assert (first.time, first.sigma) == (None, pytest.approx(0.05))
        with pytest.raises(Refused, match="CELL_NOT_FOUND"):
            client.cell("unborn").replace(degrees)


def test_truths_models_and_the_state_of_the_service_are_answered_as_types(tiny_url: str) -> None:
    with Client(tiny_url) as client:
        cell = client.cell("c")
        csi = np.random.default_rng(7).uniform(0.5, 1, (2, ANTENNAS, SUBCARRIERS)).astype(complex)
        truths = [build_truth(0.1, one, x=5.0, y=0.4) for one in csi]
        scored = cell.score_truths(truths, append_proposed=True, note="surveyed")
        assert len(scored.results) == scored.counted == 2
        assert cell.show_truths(days=1).sources[0].truths == 2
        assert len(cell.measure_errors(limit=10).errors) == 10

        assert cell.show_progress().stage is None
        with pytest.raises(Refused, match="WATCHING_FORBIDDEN"):
            cell.watch()

        (model, *_) = client.list_models().models
        assert (model.family, model.state) == ("mateformer", "active")
        assert client.activate_model(model.folder).activated["mateformer"] == model.digest
        with pytest.raises(Refused, match="ARTIFACT_NOT_FOUND"):
            client.activate_model("nothing")
        assert client.collect_versions("c", dry_run=True).dry_run
        assert (client.check_live().status, client.check_ready().status) == ("live", "ready")
        assert client.show_latency().histograms[0].counts


@pytest.mark.anyio
async def test_the_async_client_changes_pages_and_exports_too(tiny_url: str, tmp_path: Path) -> None:
    async with AsyncClient(tiny_url) as client:
        cell = client.cell("later")
        created = await cell.create(NEW, on_a_line(0, 10))
        assert await cell.export(tmp_path / "later.npz") == created.version
        assert (await cell.replace(tmp_path / "later.npz", note="again")).fingerprints == 10
        assert sorted([one.x async for one in cell.iterate_fingerprints(page_size=4)]) == list(range(10))
        with pytest.raises(FileNotFoundError):
            await cell.append(tmp_path / "nothing.npz")
        assert (await cell.delete(force=True)).versions == [1, 2]
        assert "c" in [one.cell_id for one in (await client.list_cells()).cells]


@pytest.mark.parametrize("other", ["no/cell", "", "..", "a" * 65, "c?force=true"])
def test_a_name_that_would_lead_elsewhere_is_no_cell(other: str) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ValueError, match="not the name of a cell"):
        client.cell(other)


@pytest.mark.parametrize(
    ("blocking", "asynchronous"), [(Client, AsyncClient), (CellClient, AsyncCellClient), (Track, AsyncTrack)]
)
def test_both_clients_have_the_same_documented_methods(
    blocking: type[BlockingRunner], asynchronous: type[AsyncRunner]
) -> None:
    def methods(of: type) -> dict[str, str]:
        found = inspect.getmembers(of, lambda one: inspect.isfunction(one))
        shown = {name: str(inspect.signature(one)) for name, one in found if not name.startswith("_")}
        assert not any("Generator" in one for one in shown.values())  # an exchange, which is not what is returned
        return {name: one.replace("AsyncIterator", "Iterator") for name, one in shown.items()}

    first, second = methods(blocking), methods(asynchronous)
    assert first.pop("close", None) == second.pop("aclose", None)
    own = {"track", "cell"}  # which make a client of the same kind
    assert {name: first[name] for name in first.keys() - own} == {name: second[name] for name in second.keys() - own}
    assert first.keys() == second.keys()
    assert all(inspect.getdoc(getattr(one, name)) for one in (blocking, asynchronous) for name in first)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (Fingerprints(np.ones((2, 4, 3)), np.zeros((2, 2))), "real-valued"),
        (Fingerprints(np.ones((2, 4, 3), complex), np.zeros((3, 2))), r"positions must have the shape \[2, 2\]"),
        (Fingerprints(np.ones((2, 4, 3), complex), np.full((2, 2), np.nan)), "positions has NaN"),
        (Fingerprints(np.ones((2, 4, 3), complex)), "either positions, or latitudes"),
        (Fingerprints(np.ones((2, 4, 3), complex), np.zeros((2, 2)), sigmas=[1.0]), "sigmas must have the shape"),
    ],
)
def test_fingerprints_that_cannot_be_sent_are_refused_in_plain_words(wrong: Fingerprints, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        wrong.encode()


EXPORT = {"Content_Type": "application/octet-stream", "ETag": '"3-ab12cd34ef56"'}


@pytest.mark.parametrize(
    ("status", "content", "headers"),
    [
        (200, b"<html>login</html>", {"Content_Type": "text/html"}),
        (204, b"", {}),
        (200, b"{}", {"Content_Type": "application/json"}),
        (200, b"PK\x03\x04", {"Content_Type": "application/octet-stream"}),
        (200, b"<html>", EXPORT),
        (200, b"", EXPORT),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_an_answer_that_is_no_export_replaces_no_file(
    tmp_path: Path, suffix: str, status: int, content: bytes, headers: dict[str, str]
) -> None:
    file = tmp_path / f"good{suffix}"
    file.write_bytes(b"good")
    with answering(content, status, **headers) as url:
        with Client(url) as client, pytest.raises(NoAnswer, match="nothing was written"):
            client.cell("c").export(file, overwrite=True)
        typed = CliRunner().invoke(app, ["cells", "export", "c", str(file), "--force", "--url", url])
    assert (typed.exit_code, "nothing was written" in typed.stderr) == (1, True)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(file.name, b"good")]


def test_an_export_follows_links_and_replaces_no_device(tmp_path: Path) -> None:
    (tmp_path / "target.npz").touch()
    (tmp_path / "link.npz").symlink_to("target.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    with answering(b"PK\x03\x04", **EXPORT) as url, Client(url) as client:
        assert client.cell("c").export(tmp_path / "link.npz", overwrite=True) == "3-ab12cd34ef56"
        with pytest.raises(FileExistsError, match="regular file"):
            client.cell("c").export(tmp_path / "pipe.npz", overwrite=True)
    assert (tmp_path / "link.npz").is_symlink()
    assert (tmp_path / "target.npz").read_bytes() == b"PK\x03\x04"
    assert (tmp_path / "pipe.npz").is_fifo()

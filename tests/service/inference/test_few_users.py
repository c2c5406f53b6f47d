"""Which of the graphs `query` and `query_few` locates users."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from models.artifact import MateformerArtifact, MateformerManifest, load_artifact
from models.pipeline.eight_bits import quantise
from reference_db import read_fingerprint_file
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession, as_users
from service.inference.user import Estimate, User
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch
from tests.service.bad_artifacts import change_manifest, replace_graph
from tests.service.tiny_artifact import FEATURES, write_tiny_artifact
from tests.service.tiny_cell import version_of

ROOT = Path(__file__).parents[3]
DATA, SHIPPED = ROOT / "benchmarks/data", ROOT / "models/artifacts/mateformer"

MANY, FEW = 0.01, 0.02  # metres: which graph has answered


@pytest.fixture
def artifact(tmp_path: Path) -> MateformerArtifact:
    return write_tiny_artifact(tmp_path, tile_pitch=2.0, beside=MANY, few_beside=FEW)


def started(artifact: MateformerArtifact, *providers: str) -> MateformerSession:
    """A session with room for frames, whose graphs have been proved."""
    session = MateformerSession(artifact, 1, providers or ["CPUExecutionProvider"])
    session.make_room(9)
    session.prove_frame(8)
    encode(session, slots=range(8), place=0.0)
    return session


def encode(session: MateformerSession, slots: Sequence[int], place: float) -> None:
    """Frames of fingerprints that all stand at (place, place)."""
    known = {
        "features_known": np.ones((len(slots), 8, FEATURES), np.float32),
        "positions_known": np.full((len(slots), 8, 2), place, np.float32),
        "sigmas_known": np.ones((len(slots), 8), np.float32),
    }
    session.submit(session.run, "frame", known | {"slots": np.array(slots)}).result()


@pytest.fixture
def session(artifact: MateformerArtifact) -> Iterator[MateformerSession]:
    with closing(started(artifact)) as one:
        yield one


def locate(session: MateformerSession, frames: int, users: int) -> np.ndarray:
    """Positions of users in the first frames, whose middle is the origin."""
    nowhere = np.full((frames * users, 2), np.nan, np.float32)
    asked = as_users(np.ones((frames * users, FEATURES), np.float32), nowhere, nowhere[:, 0])
    asked = {name: part.reshape(frames, users, *part.shape[2:]) for name, part in asked.items()}
    positions = session.submit(session.query, asked | {"slots": np.arange(frames)}).result().positions
    assert positions.shape == (frames, users, 2)
    return positions


@pytest.mark.parametrize(("frames", "users"), [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_few_users_are_located_by_the_graph_for_few(session: MateformerSession, frames: int, users: int) -> None:
    np.testing.assert_allclose(locate(session, frames, users), FEW, atol=1e-6)


@pytest.mark.parametrize(("frames", "users"), [(1, 5), (3, 2), (5, 1), (8, 8)])
def test_many_users_are_located_by_the_graph_for_many(session: MateformerSession, frames: int, users: int) -> None:
    np.testing.assert_allclose(locate(session, frames, users), MANY, atol=1e-6)


def test_both_graphs_read_the_same_frames(session: MateformerSession) -> None:
    encode(session, slots=[0], place=7.0)
    np.testing.assert_allclose(locate(session, 1, 1), 7 + FEW, atol=1e-5)
    np.testing.assert_allclose(locate(session, 1, 5), 7 + MANY, atol=1e-5)


def test_an_artifact_without_the_graph_serves_few_users_by_the_other(tmp_path: Path) -> None:
    with closing(started(write_tiny_artifact(tmp_path, tile_pitch=2.0, beside=MANY))) as session:
        np.testing.assert_allclose(locate(session, 1, 1), MANY, atol=1e-6)


def test_another_provider_than_the_cpu_does_not_load_the_graph(artifact: MateformerArtifact) -> None:
    with closing(started(artifact, "AzureExecutionProvider", "CPUExecutionProvider")) as session:
        np.testing.assert_allclose(locate(session, 1, 1), MANY, atol=1e-6)


def unknown_operator(folder: Path) -> None:
    """As an ONNX Runtime without `MatMulNBits` sees the graph."""
    model = onnx.load(folder / "query_few.onnx")
    (node,) = (one for one in model.graph.node if "positions" in one.output)
    node.op_type, node.domain = "MatMulNoBits", "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    replace_graph(folder, "query_few", model.SerializeToString())


def far_answers(folder: Path) -> None:
    model = onnx.load(folder / "query_few.onnx")
    (beside,) = (one for one in model.graph.initializer if one.name == "beside")
    beside.CopyFrom(helper.make_tensor("beside", onnx.TensorProto.FLOAT, [], [1.0]))
    replace_graph(folder, "query_few", model.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "reason"), [(unknown_operator, "does not load"), (far_answers, "another position than the graph full")]
)
def test_a_graph_that_does_not_work_here_is_left_out(
    artifact: MateformerArtifact, damage: Callable[[Path], None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(artifact.directory)
    damaged = load_artifact(artifact.directory, MateformerManifest)
    with caplog.at_level(logging.WARNING, "fingerpost.models"), closing(started(damaged)) as session:
        np.testing.assert_allclose(locate(session, 1, 1), MANY, atol=1e-6)
    assert reason in caplog.text


@pytest.mark.parametrize(("slower", "answer"), [(3.0, MANY), (0.8, FEW)])
def test_a_graph_that_this_cpu_has_no_instructions_for_is_left_out(
    artifact: MateformerArtifact, slower: float, answer: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"query": 1e-3, "query_few": slower * 1e-3}
    monkeypatch.setattr(MateformerSession, "_fastest_run", lambda self, graph, users: seconds[graph])
    with closing(started(artifact)) as session:
        np.testing.assert_allclose(locate(session, 1, 1), answer, atol=1e-6)


def test_a_failed_run_loads_the_same_graphs_again(session: MateformerSession) -> None:
    with pytest.raises(Exception, match="failed to run"):
        session.submit(session.run, "query_few", {}).result()
    np.testing.assert_allclose(locate(session, 1, 1), FEW, atol=1e-6)


@pytest.fixture
def quantised(tmp_path: Path) -> MateformerArtifact:
    """The shipped artifact with a graph for few users."""
    folder = tmp_path / "quantised"
    shutil.copytree(SHIPPED, folder)
    few = quantise(onnx.load(folder / "query.onnx"), kept=lambda weights: weights.shape[1] > 1000)
    change_manifest(folder, graphs=add_few(json.loads((folder / "artifact.json").read_text())["graphs"]))
    replace_graph(folder, "query_few", few.SerializeToString())
    return load_artifact(folder, MateformerManifest)


def add_few(graphs: dict[str, Any]) -> dict[str, Any]:
    return graphs | {"query_few": graphs["query"] | {"file": "query_few.onnx"}}


def test_users_of_the_shipped_model_get_nearly_the_same_from_both_graphs(quantised: MateformerArtifact) -> None:
    cell, references = read_fingerprint_file(DATA / "florence-0000-references.safetensors")
    _, users = read_fingerprint_file(DATA / "florence-0000-users.safetensors")
    version = version_of(cell, references)
    pairs = np.ascontiguousarray(users.csi[:24])[..., np.newaxis].view(np.float32)
    nowhere = np.full(2, np.nan, np.float32)
    asked = [
        User(version, csi, place if i % 2 else nowhere, 1.0 if i % 2 else np.nan)
        for i, (csi, place) in enumerate(zip(pairs, users.positions.astype(np.float32), strict=False))
    ]
    with closing(MateformerSession(quantised, 1, ["CPUExecutionProvider"])) as session:
        estimator = Estimator(session, 64, 2**26, Metrics())
        estimator.prove()
        together = locate_users(session, estimator, asked)
        alone = [locate_users(session, estimator, [one])[0] for one in asked]
    moved = [np.linalg.norm(a.position - b.position) for a, b in zip(alone, together, strict=True)]
    assert 1e-5 < np.mean(moved) < 0.02, "metres; 0 if one graph located all"
    assert max(moved) < 0.06
    for a, b in zip(alone, together, strict=True):
        assert np.linalg.det(a.covariance) ** 0.5 == pytest.approx(np.linalg.det(b.covariance) ** 0.5, rel=0.1)
        assert (a.belonging, a.coarse_used) == (b.belonging, b.coarse_used)


def locate_users(session: MateformerSession, estimator: Estimator, users: list[User]) -> list[Estimate]:
    found = session.submit(estimator.locate, users, Stopwatch()).result()
    assert all(isinstance(one, Estimate) for one in found)
    return [one for one in found if isinstance(one, Estimate)]

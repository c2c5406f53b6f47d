"""Calibrates the spreads of an LWLM on the validation streets, and measures their coverage on the test streets.

`fingerpost-train calibrate` does both for an artifact, whose graphs and weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import onnxruntime
import torch
from torch import Tensor, nn

from models.artifact import LWLM_SCHEMA_VERSION, LwlmManifest, LwlmScales, Scales, load_artifact
from models.lwlm.card import Coverage, lwlm_card
from models.lwlm.data import load_links
from models.lwlm.decoders import Decoded, invert
from models.lwlm.decoding import FEWEST_STATIONS, Lwlm, fuse_stations, keep_stations
from models.lwlm.evaluation import answer_users
from models.lwlm.labels import LabelledUsers, label_users
from models.lwlm.learner import load_tested
from models.lwlm.recipe import LwlmRecipe
from models.pipeline.export import RECIPE_FILE, write_description

CALIBRATION_SEED = 2029
CHECKED = (50, 68, 90, 95, 99)  # per cent


class ServedLwlm(nn.Module):
    """The graph ``full`` of an artifact in place of the model that it was exported from."""

    def __init__(self, graph: bytes) -> None:
        super().__init__()
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def forward(self, csi: Tensor, configuration: Tensor) -> tuple[Decoded, None]:
        """As `Lwlm`, without the encoder's features."""
        outputs = self.session.run(None, {"csi": csi.numpy(), "configuration": configuration.numpy()})
        length, aoa, sight, *others = (torch.from_numpy(output) for output in outputs)
        return Decoded(*length.unbind(-1), *aoa.unbind(-1), sight.logit(1e-6), *others[:3]), None


def calibrate_artifact(folder: Path, paths: Path) -> Coverage:
    """Writes new scales and their coverage into the manifest and the card of an artifact.

    Raises `FileNotFoundError` for a missing path table, and what `load_artifact` raises.
    """
    artifact = load_artifact(folder, LwlmManifest)
    recipe = LwlmRecipe.load(folder / RECIPE_FILE)
    model = ServedLwlm(artifact.graphs["full"])
    scales = calibrate_scales(model, load_validation(recipe, paths))
    coverage = measure_coverage(model, load_tested(recipe, paths), scales)
    changes = {
        "schema_version": LWLM_SCHEMA_VERSION,
        "scales": scales,
        "metrics": artifact.manifest.metrics | name_coverage(coverage),
    }
    manifest = artifact.manifest.model_copy(update=changes)
    parameters = sum(one.numel() for one in Lwlm(recipe.for_decoders()).parameters())
    write_description(folder, manifest, lwlm_card(recipe, manifest, parameters, coverage))
    return coverage


def load_validation(recipe: LwlmRecipe, paths: Path) -> LabelledUsers:
    """All users of the validation streets. Raises `FileNotFoundError` for a missing path table."""
    links = load_links(recipe.streets.validation, recipe.streets.stations, paths)
    return label_users(links, torch.arange(links.users), recipe.tested, CALIBRATION_SEED)


class Scores(NamedTuple):
    """Errors in units of the predicted standard deviation; Mahalanobis distances of positions."""

    range: Tensor
    aoa: Tensor
    position: Tensor
    fused: Tensor


def score_errors(model: nn.Module, users: LabelledUsers, stations: int | None = None) -> Scores:
    """The scores of all links, and of fusions of so many stations of each user; None: of a random two or more."""
    generator = torch.Generator().manual_seed(CALIBRATION_SEED)
    scores: list[Scores] = []
    for drawn, decoded in answer_users(model, users, torch.device("cpu")):
        truth, reached = drawn.truth, drawn.reached
        fused = fuse_stations(decoded, drawn, keep_stations(reached, generator, stations))
        several = reached.sum(1) >= (stations or FEWEST_STATIONS)
        scores.append(
            Scores(
                ((decoded.range - truth.range).abs() / decoded.range_sigma)[reached],
                ((decoded.aoa - truth.aoa).abs() / decoded.aoa_sigma)[reached],
                mahalanobis(decoded.position - truth.position, decoded.covariance)[reached],
                mahalanobis(fused.position - drawn.user, fused.covariance)[several],
            )
        )
    return Scores(*(torch.cat(values) for values in zip(*scores, strict=True)))


def calibrate_scales(model: nn.Module, validation: LabelledUsers) -> LwlmScales:
    """Split conformal: the scores of rank ceil((n + 1) · confidence) among the validation streets' users.

    Fusions have one scale a confidence, the largest of those for two, three and more stations.
    """
    most = validation.groups[0].reached.shape[1]
    scores = {count: score_errors(model, validation, count) for count in range(FEWEST_STATIONS, most + 1)}
    alone = scores[most]._asdict()
    del alone["fused"]
    fused = [_scales(one.fused).factors for one in scores.values()]
    common = set.intersection(*map(set, fused))
    return LwlmScales(
        fused=Scales(factors={one: max(factors[one] for factors in fused) for one in sorted(common)}),
        **{name: _scales(values) for name, values in alone.items()},
    )


def _scales(scores: Tensor) -> Scales:
    scales = Scales.of_distances(scores.numpy())
    assert scales is not None  # a path reaches some users
    return scales


def measure_coverage(model: nn.Module, tested: LabelledUsers, scales: LwlmScales) -> Coverage:
    """The shares of tested errors within the stated intervals and ellipses, by confidence in per cent.

    Those of fusions are named by the number of stations.
    """
    most = tested.groups[0].reached.shape[1]
    scores = {count: score_errors(model, tested, count) for count in range(FEWEST_STATIONS, most + 1)}
    errors = {name: (values, name) for name, values in scores[most]._asdict().items() if name != "fused"}
    errors |= {f"{count} stations": (one.fused, "fused") for count, one in scores.items()}
    coverage = {}
    for name, (values, scale) in errors.items():
        known: Scales = getattr(scales, scale)
        coverage[name] = {one: float((values <= known.at(one).factor).float().mean()) for one in CHECKED}
    return coverage


def name_coverage(coverage: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """The manifest's figures."""
    return {f"coverage of 95 % intervals, {name}": round(shares[95], 4) for name, shares in coverage.items()}


def mahalanobis(error: Tensor, covariance: Tensor) -> Tensor:
    """[..., 2], [..., 2, 2] -> [...]"""
    return torch.einsum("...i,...ij,...j->...", error, invert(covariance), error).clamp_min(0).sqrt()

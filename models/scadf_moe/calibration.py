"""Calibrates the covariances of an artifact on held-out trajectories, and checks them on others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.artifact import PathFeatureScales, Scales, TrajectoryScales
from models.pipeline.tables import markdown_table
from models.scadf_moe.data import Corpus
from models.scadf_moe.held_out import SERVED, Drawn, Part, divide_held_out, draw_unseen
from models.scadf_moe.recipe import PathFeatureKind, ScadfMoERecipe

CHECKED = (50, 68, 90, 95, 99)  # per cent
USUAL = 95  # per cent
AT_ONCE = 128


class Misses(NamedTuple):
    """How far off vertices (one after another) or centroids are, and how far off the model says that they may be."""

    metres: NDArray[np.float64]  # [n]
    distances: NDArray[np.float64]  # [n] Mahalanobis distances
    areas: NDArray[np.float64]  # [n] square metres, of the ellipses at distance 1
    band: NDArray[np.float64]  # [n] hertz
    line_of_sight: NDArray[np.bool_]  # [n] of all vertices, for a centroid

    def where(self, rows: NDArray[np.bool_]) -> Misses:
        return Misses(*(values[rows] for values in self))


class Measured(NamedTuple):
    """The trajectories of one part with path features of one source."""

    vertices: Misses
    centroids: Misses
    points: int  # different points, each in several trajectories and in every band


class Checks(NamedTuple):
    """What the covariances are calibrated on and checked with, by the source of the path features."""

    calibration: Mapping[PathFeatureKind, Measured]
    check: Mapping[PathFeatureKind, Measured]


def run_checks(recipe: ScadfMoERecipe, corpus: Corpus, graph: Path | bytes) -> Checks:
    """``corpus`` as `models.scadf_moe.held_out.load_served` gives it. Raises `NoTrajectories`."""
    return Checks(_measure_part(recipe, corpus, graph, "calibration"), _measure_part(recipe, corpus, graph, "check"))


def _measure_part(
    recipe: ScadfMoERecipe, corpus: Corpus, graph: Path | bytes, part: Part
) -> dict[PathFeatureKind, Measured]:
    assert recipe.certainty is not None
    users = divide_held_out(corpus)[part]
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    measured = {}
    for kind in SERVED:
        drawn = list(draw_unseen(recipe, corpus, kind, users, recipe.certainty.trajectories, part))
        pairs = [_miss(one, *locate(session, one), band) for one, band in zip(drawn, recipe.train_bands, strict=True)]
        vertices, centroids = (_join(some) for some in zip(*pairs, strict=True))
        measured[kind] = Measured(vertices, centroids, len(np.unique(drawn[0].users)))
    return measured


def locate(session: onnxruntime.InferenceSession, drawn: Drawn) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Positions [b, v + 1, 2] and covariances [b, v + 1, 2, 2] of ONNX Runtime."""
    csi = np.ascontiguousarray(drawn.csi).view(np.float32).reshape(*drawn.csi.shape, 2)
    batches = (slice(first, first + AT_ONCE) for first in range(0, len(csi), AT_ONCE))
    answers = [
        session.run(["positions", "covariances"], {"csi": csi[rows], "path_features": drawn.path_features[rows]})
        for rows in batches
    ]
    positions, covariances = (np.concatenate(some) for some in zip(*answers, strict=True))
    return positions, covariances


def _miss(
    drawn: Drawn, positions: NDArray[np.float32], covariances: NDArray[np.float32], band: float
) -> tuple[Misses, Misses]:
    off = (positions - drawn.truth).astype(np.float64)
    spread = covariances.astype(np.float64)
    squared = np.einsum("...i,...i->...", off, np.linalg.solve(spread, off[..., None])[..., 0])
    sight = np.concatenate([drawn.line_of_sight, drawn.line_of_sight.all(1, keepdims=True)], axis=1)
    all_of_them = Misses(
        metres=np.linalg.norm(off, axis=-1),
        distances=np.sqrt(squared),
        areas=math.pi * np.sqrt(np.linalg.det(spread)),
        band=np.full(off.shape[:2], band),
        line_of_sight=sight,
    )
    vertices, centroids = (
        Misses(*(values[:, tasks].ravel() for values in all_of_them)) for tasks in (slice(-1), slice(-1, None))
    )
    return vertices, centroids


def _join(parts: Iterable[Misses]) -> Misses:
    return Misses(*map(np.concatenate, zip(*parts, strict=True)))


def calibrate(measured: Mapping[PathFeatureKind, Measured]) -> PathFeatureScales:
    return PathFeatureScales(
        **{
            kind: TrajectoryScales(vertex=_scales(one.vertices), centroid=_scales(one.centroids))
            for kind, one in measured.items()
        }
    )


def _scales(misses: Misses) -> Scales:
    scales = Scales.of_distances(misses.distances)
    assert scales is not None  # there are trajectories
    return scales


def usual_error(misses: Iterable[Misses]) -> float:
    """The largest distance in metres that `USUAL` per cent of each are within."""
    return max(float(np.quantile(one.metres, USUAL / 100, method="higher")) for one in misses)


def summarise_checks(checks: Checks, scales: PathFeatureScales) -> dict[str, float]:
    """JSON-ready errors in metres and coverages of the check, for the manifest."""
    figures = {}
    for kind, one in checks.check.items():
        stated: TrajectoryScales = getattr(scales, kind)
        source = f"{kind} path features"
        figures |= {
            f"mean error of unseen points, {source}": one.vertices.metres.mean(),
            f"median error of unseen points, {source}": np.median(one.vertices.metres),
            f"mean error of centroids, {source}": one.centroids.metres.mean(),
            f"coverage of {USUAL} % ellipses, points, {source}": _coverage(one.vertices, stated.vertex, USUAL),
            f"coverage of {USUAL} % ellipses, centroids, {source}": _coverage(one.centroids, stated.centroid, USUAL),
        }
    return {name: round(float(value), 4) for name, value in figures.items()}


class CheckedPart(NamedTuple):
    """Ellipses of some held-out estimates beside one circle for all. Shares by confidence in per cent, areas in m²."""

    of: str  # point or centroid
    path_features: PathFeatureKind
    part: str  # all, a band, LOS or NLOS
    estimates: int
    mean_error_m: float
    coverage: dict[int, float]
    median_area_m2: float
    circle_area_m2: float
    inside_circle: float


def check_parts(checks: Checks, scales: PathFeatureScales) -> list[CheckedPart]:
    """How often held-out estimates lie inside their ellipses, by kind, path features and part."""
    found = []
    for kind, one in checks.check.items():
        stated: TrajectoryScales = getattr(scales, kind)
        before = checks.calibration[kind]
        for name, misses, known, calibrated in (
            ("point", one.vertices, stated.vertex, before.vertices),
            ("centroid", one.centroids, stated.centroid, before.centroids),
        ):
            circle = usual_error([calibrated])
            parts = {"all": np.ones(len(misses.metres), np.bool_)}
            parts |= {f"{hertz / 1e9:g} GHz": misses.band == hertz for hertz in np.unique(misses.band)}
            parts |= {"LOS": misses.line_of_sight, "NLOS": ~misses.line_of_sight}
            for part, some in ((part, misses.where(rows)) for part, rows in parts.items() if rows.any()):
                factor = known.at(USUAL).factor
                found.append(
                    CheckedPart(
                        of=name,
                        path_features=kind,
                        part=part,
                        estimates=len(some.metres),
                        mean_error_m=float(some.metres.mean()),
                        coverage={one: _coverage(some, known, one) for one in CHECKED},
                        median_area_m2=float(factor**2 * np.median(some.areas)),
                        circle_area_m2=math.pi * circle**2,
                        inside_circle=float((some.metres <= circle).mean()),
                    )
                )
    return found


def write_checks(checks: Checks, scales: PathFeatureScales) -> str:
    """Markdown: coverage in per cent by confidence, and the area of the ellipses beside that of one circle for all."""
    rows = [
        [
            f"{one.of}, {one.path_features}, {one.part}",
            f"{one.estimates:,}",
            f"{one.mean_error_m:.2f}",
            *(f"{100 * share:.1f}" for share in one.coverage.values()),
            f"{one.median_area_m2:.2f}",
            f"{one.circle_area_m2:.2f}",
            f"{100 * one.inside_circle:.1f}",
        ]
        for one in check_parts(checks, scales)
    ]
    head = ["", "estimates", "mean error (m)", *(f"{one} %" for one in CHECKED)]
    head += [f"median area at {USUAL} % (m²)", "area of one circle (m²)", "inside that circle (%)"]
    return markdown_table(head, rows)


def _coverage(misses: Misses, scales: Scales, confidence: int) -> float:
    return float((misses.distances <= scales.at(confidence).factor).mean())

"""Artifacts as the answer about models describes them."""

from pathlib import Path
from typing import Any

from fingerpost.wire_artifacts import (
    Band,
    Channels,
    ErrorScales,
    ListedModel,
    MeasuringModel,
    Model,
    ModelRange,
    ModelState,
    ModelTracks,
    PathFeatureScales,
    Radios,
    TrajectoryModel,
    TrajectoryScales,
)
from models.artifact import LwlmManifest, Manifest, MateformerManifest


def describe_model(
    directory: Path,
    manifest: Manifest,
    digest: str,
    *,
    state: ModelState,
    configured: bool,
    providers: list[str],
) -> Model | TrajectoryModel | MeasuringModel:
    """The model in `directory`. `providers`: the execution providers that run it."""
    fields: dict[str, Any] = {
        "folder": directory.name,
        "state": state,
        "configured": configured,
        "digest": digest,
        "execution_providers": providers,
    }
    if isinstance(manifest, MateformerManifest):
        ranges = {name: ModelRange(**ends) for name, ends in manifest.csi.model_dump().items()}
        contract = manifest.tracks
        tracks = None if contract is None else ModelTracks(snapshots=contract.snapshots, stride=contract.stride)
        return Model(**_copy_fields(manifest, Model), **fields, csi=Radios(**ranges), tracks=tracks)
    if isinstance(manifest, LwlmManifest):
        return MeasuringModel(
            **_copy_fields(manifest, MeasuringModel),
            **fields,
            csi=Channels(**manifest.csi.model_dump(mode="json")),
            scales=ErrorScales(**{name: scales.factors for name, scales in manifest.scales}),
        )
    scales = {
        source: TrajectoryScales(vertex=one.vertex.factors, centroid=one.centroid.factors)
        for source, one in manifest.scales
    }
    return TrajectoryModel(
        **_copy_fields(manifest, TrajectoryModel),
        **fields,
        csi=Band(**manifest.csi.model_dump()),
        scales=PathFeatureScales(**scales),
    )


def _copy_fields(manifest: Manifest, kind: type[ListedModel]) -> dict[str, Any]:
    """The fields that the manifest has under the same name."""
    return manifest.model_dump(
        mode="json", include=set(kind.model_fields) - {"csi", "scales", "digest", "family", "tracks"}
    )

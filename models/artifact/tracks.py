"""What the manifest says of tracks: several snapshots of one user, located together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Self

from pydantic import Field, model_validator

from models.artifact.scales import Scales
from models.artifact.smoother import Motion
from models.frozen import FrozenModel


class TrackLevel(FrozenModel):
    """How far errors reach beyond covariances, for tracks of up to ``snapshots`` with fixes of up to ``accuracy``.

    Measured in streets that neither network has learned. Factors multiply the standard deviations of covariances.
    """

    accuracy: float | None = Field(
        gt=0, description="Worst 1-sigma error of the fixes on an axis, metres. Null: any, and none."
    )
    snapshots: int = Field(ge=1, description="Most snapshots of a track.")
    alone: Scales = Field(description="Of each snapshot located alone, beyond the covariance of `query`.")
    together: Scales = Field(description="Of the snapshots of a track, beyond the covariance of `track`.")


class TracksContract(FrozenModel):
    """The tracks that the graph ``track`` was trained for, and how far its answers are off.

    A track has at most ``snapshots``. Its user goes at most ``stride`` metres from snapshot to snapshot, on average.
    """

    snapshots: int = Field(ge=2, description="Most snapshots that are located together.")
    stride: float = Field(gt=0, description="Metres from snapshot to snapshot, at most.")
    motion: Motion = Field(description="Of the Kalman smoother whose answer the network corrects.")
    levels: tuple[TrackLevel, ...] = Field(
        min_length=1, description="Those with the same `accuracy` follow each other; bounds rise."
    )

    @model_validator(mode="after")
    def _holds_every_track(self) -> Self:
        by_accuracy = [(bound, list(some)) for bound, some in groupby(self.levels, lambda one: one.accuracy)]
        bounds = [bound for bound, _ in by_accuracy]
        if bounds[-1] is not None or None in bounds[:-1] or not _rise([one for one in bounds if one is not None]):
            raise ValueError("the accuracies of levels must rise, and end with null")
        for _, some in by_accuracy:
            counts = [one.snapshots for one in some]
            if not _rise(counts) or counts[-1] < self.snapshots:
                raise ValueError("the snapshots of levels must rise, up to those of the longest track")
        return self

    def level(self, accuracy: float, snapshots: int) -> TrackLevel:
        """The level of a track of so many snapshots. ``accuracy``: 1-sigma error of its fixes, infinite without one."""
        return next(
            one
            for one in self.levels
            if (one.accuracy is None or accuracy <= one.accuracy) and snapshots <= one.snapshots
        )


def _rise(values: Sequence[float]) -> bool:
    return all(early < late for early, late in pairwise(values))

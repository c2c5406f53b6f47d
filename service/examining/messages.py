"""What the service and its examiner tell each other."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artifact import MateformerArtifact
from reference_db.manifest import Manifest


class IndexVersion(NamedTuple):
    """Asks for the arrays of `References.arrays`, of the segments that the manifest calls indexed."""

    manifest: Manifest


class RunCanary(NamedTuple):
    """Asks for a `Canary`."""

    manifest: Manifest
    before: Manifest | None


class Calibrate(NamedTuple):
    """Asks for a `Calibration`."""

    manifest: Manifest


class MeasureErrors(NamedTuple):
    """Asks for errors in metres, float64 `[n]`, of the fingerprints `rows` `[n]`, each left out."""

    manifest: Manifest
    rows: NDArray[np.int64]


Work = IndexVersion | RunCanary | Calibrate | MeasureErrors


class Request(NamedTuple):
    """Work with the artifact of a digest. The `artifact` itself, and a file of segments, where the examiner lacks them.

    The arrays of a segment are named `<digest> <array>`.
    """

    number: int
    work: Work
    digest: str | None
    artifact: MateformerArtifact | None


class Answer(NamedTuple):
    """The result of a request. That of `IndexVersion` is in a file."""

    number: int
    result: Any


class Failure(NamedTuple):
    """Why a request has no result."""

    number: int
    error: Exception


class Lack(NamedTuple):
    """The examiner needs these segments, or the artifact: the request is to be sent again with them."""

    number: int
    segments: tuple[str, ...]
    artifact: bool

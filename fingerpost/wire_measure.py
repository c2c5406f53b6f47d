"""What `POST /measure` takes and answers."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from fingerpost.wire import (
    CellId,
    Csi,
    LosNlosMeasureInd,
    MaxAge,
    MaxRespTime,
    MeasuredAt,
    RequestId,
    WantedConfidence,
)
from fingerpost.wire_model import WireModel, WireRequest, optional
from fingerpost.wire_provenance import ArtifactReference, LosProbability

_CLOCK = (
    "Needs synchronised clocks: a sampling-time offset adds to the time, and the speed of light x offset to the range."
)
_HALF_WIDTH = "Half the width of the interval of this confidence"


class MeasureRequest(WireRequest):
    """One snapshot of CSI. The cell needs no fingerprints."""

    cell_id: CellId
    csi: Csi
    timestamp: MeasuredAt | None = optional()
    confidence: WantedConfidence | None = optional()
    max_age: MaxAge | None = optional()
    max_resp_time: MaxRespTime | None = optional()
    request_id: RequestId | None = optional()


class MeasureProvenance(WireModel):
    """The model that measured the snapshot, and the description of the base station that it used."""

    source: Literal["lwlm"] = "lwlm"
    artifact: ArtifactReference
    cell_version: str


class MeasureResponse(WireModel):
    """The first path of the channel: its delay, direction and kind. Each uncertainty is calibrated on held-out data."""

    request_id: str | None = optional()
    time_of_arrival: Annotated[
        float, Field(description=f"Time from the user to the base station by the first path, seconds. {_CLOCK}")
    ]
    time_of_arrival_uncertainty: Annotated[float, Field(description=f"{_HALF_WIDTH}, seconds.")]
    range: Annotated[float, Field(description=f"Length of the first path, metres. {_CLOCK}")]
    range_uncertainty: Annotated[float, Field(description=f"{_HALF_WIDTH}, metres.")]
    aoa_deg: Annotated[
        float,
        Field(
            ge=0,
            lt=360,
            description="Compass azimuth from which the first path arrives at the base station, degrees clockwise from "
            "north. A linear array cannot tell front from back: this is the direction in front of the array, and the "
            "path may as well come from its mirror image behind the line of the antennas.",
        ),
    ]
    aoa_uncertainty_deg: Annotated[float, Field(ge=0, le=180, description=f"{_HALF_WIDTH}, degrees.")]
    los_probability: LosProbability
    los_nlos_measure_ind: LosNlosMeasureInd
    confidence: Annotated[int, Field(ge=0, le=100, description="Per cent of users within each uncertainty.")]
    timestamp: Annotated[datetime, Field(description="When the CSI was measured, as far as is known.")]
    provenance: MeasureProvenance

"""Findings about a survey in words for operators, and what to do about them."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from reference_db.azimuth import to_azimuth
from reference_db.cell import Cell
from reference_db.element_order import OrderVerdict
from reference_db.frequency_response import ResponseVerdict
from reference_db.position_units import UnitsVerdict

Severity = Literal["refused", "warning"]


class Finding(NamedTuple):
    """What is implausible about a survey, and what to do. A `refused` survey needs a person who insists."""

    name: str
    severity: Severity
    reason: str
    advice: str


def describe_units(verdict: UnitsVerdict) -> Iterator[Finding]:
    """The finding about positions that are not metres, if there is one."""
    if verdict.unit is None or verdict.unit == "m":
        return
    name = {"ft": "feet", "cm": "centimetres", "mm": "millimetres"}[verdict.unit]
    yield Finding(
        "units",
        "refused" if verdict.clear else "warning",
        f"the positions are {name}, not metres: only so do delays grow with the distance at the speed of light",
        f"state --units {verdict.unit}, or send metres; if they are metres, correct the bandwidth",
    )


def describe_response(verdict: ResponseVerdict) -> Finding:
    """The finding about CSI that is no frequency response. Not for the response "good"."""
    reason, advice = {
        "magnitudes only": (
            "the CSI is real: all imaginary parts are 0",
            "csi must be complex, with the phases as they were measured",
        ),
        "phases only": (
            "all numbers of the CSI have the same magnitude",
            "csi must hold magnitudes and phases as they were measured",
        ),
        "impulse response": (
            "each snapshot has its power on a few subcarriers, as an impulse response has on a few delays",
            "csi must be the channel's frequency response: take the FFT of impulse responses over the delays",
        ),
        "order of an FFT": (
            "the CSI jumps in the middle of the band and goes on from the last subcarrier to the first: its "
            "subcarriers are in the order of an FFT",
            "state --subcarrier-order fft, or leave it out if the subcarriers already go by ascending frequency",
        ),
    }[verdict.response]
    return Finding("response", "refused" if verdict.clear else "warning", reason, advice)


def describe_order(verdict: OrderVerdict, cell: Cell) -> Iterator[Finding]:
    """The finding about CSI in another order, or about an array that is turned, if there is one."""
    polarised = "polarisations," if cell.array.polarisations > 1 else ""
    by_column = f"samples,{polarised}columns,rows,subcarriers"
    fits = {
        "conjugated": (
            "conjugated: bearings are mirrored, and echoes come before the direct path",
            "conjugate the CSI (--conjugate); a path of delay tau must contribute exp(-j 2 pi f tau)",
        ),
        "columns reversed": (
            "in reverse order of the columns: bearings are mirrored",
            "reverse the columns: column 0 is at the right seen from behind the array. Or check the sign of phase, and "
            "that azimuthDeg is where broadside points, not the opposite",
        ),
        "subcarriers reversed": (
            "in reverse order of the subcarriers: echoes come before the direct path",
            "reverse the subcarriers (--subcarrier-order descending): they must go by ascending frequency",
        ),
        "transposed": (
            f"transposed: bearings fit if it is read as {cell.subcarriers} subcarriers by {cell.antennas} antennas",
            "store csi as antennas by subcarriers, the subcarriers running fastest, or state "
            "--axes samples,subcarriers,antennas",
        ),
        "column by column": (
            "column by column: bearings fit if its antennas are read in that order",
            f"number the antennas row by row, row 0 at the bottom, or state --axes {by_column}",
        ),
    }
    if verdict.order in fits:
        reading, advice = fits[verdict.order]
        yield Finding("order", "refused", f"the CSI is {reading}", advice)
    elif verdict.order == "echoes first":
        yield Finding(
            "order",
            "warning",
            "echoes come before the direct path: the CSI is conjugated, or its subcarriers are in reverse order",
            "check the sign of phase (--conjugate) and the order of the subcarriers (--subcarrier-order descending)",
        )
    elif verdict.order in ("echoes along antennas", "square"):
        told = "nothing tells which is which"
        if verdict.order == "echoes along antennas":
            told = (
                "echoes come after the direct path along the antennas, not along the subcarriers: it may be transposed"
            )
        yield Finding(
            "order",
            "warning",
            f"the CSI has as many antennas as subcarriers, and {told}",
            "check that csi is antennas by subcarriers, or state --axes samples,subcarriers,antennas",
        )
    elif verdict.order == "turned" and verdict.yaw is not None:
        fitting, stated = (to_azimuth(yaw) for yaw in (verdict.yaw, cell.yaw))
        yield Finding(
            "azimuth",
            "warning",
            f"bearings fit an array at azimuth {fitting:.0f}, but azimuthDeg says {stated:.0f}",
            "azimuthDeg counts clockwise from north. Or east and north are exchanged",
        )

"""Recordings of DICHASUS (dichasus.inue.uni-stuttgart.de): TFRecords, and beside them what is known of the antennas.

Each record has `csi`, float32 `[channels, subcarriers, 2]`, the subcarriers in the order of an FFT; positions such as
`pos-tachy`, float64 `[2 or 3]` in metres; and `time`, seconds since the recording began, which is no time of day.

- `spec.json` lists the antenna arrays: for each, `assignments` has the channel of each antenna, row by row. The top row
  is first, and rows go from left to right for a person who looks at the array.
- `reftx-offsets-NAME.json` belongs to `NAME.tfrecords`: `sto` and `cpo` of each channel. Multiplying subcarrier k of S,
  in ascending order, by exp(j (2 pi sto k / S + cpo)) makes the channels coherent.

Both files lie in the folder of the recording or in the one above. Read here, the subcarriers ascend, the offsets are
applied, and antennas go row by row from the bottom.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.source import Source, Variable
from reference_db.sources.tfrecord import Feature, Record, find_records, parse_tensor, read_examples

_SPEC = "spec.json"
_POSITIONS = ("pos-tachy", "pos-lidar")  # the more exact first

_Channels = NDArray[np.int64]


def open_dichasus(path: Path) -> Source:
    """`csi` complex64 `[n, antennas, subcarriers]` and the positions of a recording.

    With several arrays, each is a variable of its own, `array-1` and so on, in the order of `spec.json`; one alone is
    `csi`, and `array-1` too. Without `spec.json` the antennas are in the order of the channels. Of several positions,
    the most exact is `positions`; the others keep their names. Raises `BadFingerprintFile` or `OSError`.
    """
    records = find_records(path)
    if not records:
        raise BadFingerprintFile("the file has no records")
    first = next(read_examples(path, records[:1]))
    channels, subcarriers = _read_csi(first, 0).shape
    spec, named_offsets = _read_json(path, _SPEC), f"reftx-offsets-{path.stem}.json"
    known_offsets = _read_json(path, named_offsets)
    offsets = _make_factors(known_offsets, named_offsets, channels, subcarriers)
    variables = {}
    for name, array in _read_arrays(spec, channels).items():
        load = partial(_load_csi, path, records, array, offsets, (channels, subcarriers))
        variables[name] = Variable(load, f"complex64 [{len(records)}, {array.size}, {subcarriers}]")
    positions = [name for name in first if name.startswith("pos-")]
    best = next((name for name in _POSITIONS if name in positions), positions[0] if positions else None)
    for name in positions:
        variables["positions" if name == best else name] = Variable(partial(_load_positions, path, records, name))
    notes = []
    if known_offsets is None:
        notes.append(f"no {named_offsets}: channels are not made coherent")
    if spec is None:
        notes.append(f"no {_SPEC}: antennas are in the order of the channels")
    is_alone = spec is not None and "csi" in variables
    return Source(variables, notes=tuple(notes), other_names={"array-1": "csi"} if is_alone else {})


def _load_csi(
    path: Path, records: list[Record], channels: _Channels, offsets: NDArray[np.complex64], shape: tuple[int, int]
) -> NDArray[np.complex64]:
    csi = np.empty((len(records), len(channels), shape[1]), np.complex64)
    for number, example in enumerate(read_examples(path, records)):
        one = _read_csi(example, number)
        if one.shape != shape:
            raise BadFingerprintFile(f"csi of record {number} is {list(one.shape)}, that of record 0 {list(shape)}")
        with np.errstate(over="ignore", invalid="ignore"):  # a number that is not finite is reported with its row
            csi[number] = np.fft.fftshift(one[channels], axes=1) * offsets[channels]
    return csi


def _read_csi(example: dict[str, Feature], number: int) -> NDArray[np.complex64]:
    """Complex `[channels, subcarriers]` as recorded."""
    csi = _read_tensor(example, "csi", number)
    if csi.dtype != np.float32 or csi.ndim != 3 or csi.shape[2] != 2:
        raise BadFingerprintFile(
            f"csi of record {number} is {csi.dtype} {list(csi.shape)}, expected float32 [channels, subcarriers, 2]"
        )
    return np.ascontiguousarray(csi).view(np.complex64)[..., 0]


def _load_positions(path: Path, records: list[Record], name: str) -> NDArray[Any]:
    found = [_read_tensor(example, name, number) for number, example in enumerate(read_examples(path, records))]
    if len({one.shape for one in found}) > 1 or found[0].shape not in ((2,), (3,)):
        raise BadFingerprintFile(f"{name} is {list(found[0].shape)}, expected 2 or 3 metres in each record")
    return np.stack(found)


def _read_tensor(example: dict[str, Feature], name: str, number: int) -> NDArray[Any]:
    feature = example.get(name)
    if not isinstance(feature, bytes):
        raise BadFingerprintFile(f"record {number} has no tensor {name}; it has {', '.join(sorted(example))}")
    try:
        return parse_tensor(feature)
    except (ValueError, IndexError) as error:
        raise BadFingerprintFile(f"{name} of record {number} is {error}") from error


def _read_arrays(spec: Any, channels: int) -> dict[str, _Channels]:
    """The channels of each array by the name of its variable, row by row from the bottom."""
    if spec is None:
        return {"csi": np.arange(channels)}
    arrays = {}
    try:
        for number, one in enumerate(spec["antennas"], start=1):
            rows = [list(row) for row in one["assignments"]]
            named = [channel for row in reversed(rows) for channel in row]
            if any(type(channel) is not int for channel in named):
                raise TypeError("a channel is no whole number")
            if len(set(named)) < len(named):
                raise BadFingerprintFile(f"spec.json assigns a channel twice in the {number}. array")
            if len({len(row) for row in rows}) == 1 and all(0 <= channel < channels for channel in named):
                arrays[f"array-{number}"] = np.array(named)  # else it lacks antennas: no rectangle
    except (KeyError, TypeError, ValueError) as error:
        raise BadFingerprintFile("spec.json has no antennas with assignments, lists of rows of channels") from error
    if not arrays:
        raise BadFingerprintFile(f"spec.json has no whole array of the {channels} channels")
    return {"csi": arrays["array-1"]} if len(spec["antennas"]) == 1 else arrays


def _make_factors(offsets: Any, name: str, channels: int, subcarriers: int) -> NDArray[np.complex64]:
    """The factors that make the channels coherent, `[channels, subcarriers]`; ones if no file has their offsets."""
    if offsets is None:
        return np.ones((channels, subcarriers), np.complex64)
    try:
        sto, cpo = (np.array(offsets[part], np.float64) for part in ("sto", "cpo"))
    except (KeyError, TypeError, ValueError) as error:
        raise BadFingerprintFile(f"{name} does not have the numbers sto and cpo") from error
    if sto.shape != (channels,) or cpo.shape != (channels,):
        raise BadFingerprintFile(f"{name} has sto {list(sto.shape)} and cpo {list(cpo.shape)} for {channels} channels")
    phase = 2 * np.pi * sto[:, None] * np.arange(subcarriers) / subcarriers + cpo[:, None]
    factors: NDArray[np.complex64] = np.exp(1j * phase).astype(np.complex64)
    return factors


def _read_json(recording: Path, name: str) -> Any:
    """What a file beside a recording holds; None if there is no file."""
    for folder in (recording.parent, recording.parent.parent):
        if (folder / name).is_file():
            try:
                return json.loads((folder / name).read_bytes())
            except (ValueError, RecursionError) as error:
                raise BadFingerprintFile(f"{name} is not JSON: {error}") from error
    return None

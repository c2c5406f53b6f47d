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

_POSITIONS = ("pos-tachy", "pos-lidar")  # the more exact first

_Channels = NDArray[np.int64]


def open_dichasus(path: Path) -> Source:
    """`csi` complex64 `[n, antennas, subcarriers]` and the positions of a recording.

    With several arrays, each is a variable of its own, `array-1` and so on, in the order of `spec.json`. Without
    `spec.json` the antennas are in the order of the channels. Of several positions, the most exact is `positions`; the
    others keep their names. Raises `BadFingerprintFile` or `OSError`.
    """
    records = find_records(path)
    if not records:
        raise BadFingerprintFile("the file has no records")
    first = next(read_examples(path, records[:1]))
    channels, subcarriers = _read_csi(first, 0).shape
    offsets = _read_offsets(path, channels, subcarriers)
    variables = {}
    for name, array in _read_arrays(path, channels).items():
        load = partial(_load_csi, path, records, array, offsets, (channels, subcarriers))
        variables[name] = Variable(load, f"complex64 [{len(records)}, {array.size}, {subcarriers}]")
    positions = [name for name in first if name.startswith("pos-")]
    best = next((name for name in _POSITIONS if name in positions), positions[0] if positions else None)
    for name in positions:
        variables["positions" if name == best else name] = Variable(partial(_load_positions, path, records, name))
    return Source(variables)


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


def _read_arrays(path: Path, channels: int) -> dict[str, _Channels]:
    """The channels of each array by the name of its variable, row by row from the bottom."""
    spec = _read_json(_find_beside(path, "spec.json"))
    if spec is None:
        return {"csi": np.arange(channels)}
    arrays = {}
    try:
        for number, one in enumerate(spec["antennas"], start=1):
            rows = [[int(channel) for channel in row] for row in one["assignments"]]
            named = [channel for row in reversed(rows) for channel in row]
            if len({len(row) for row in rows}) == 1 and all(0 <= channel < channels for channel in named):
                arrays[f"array-{number}"] = np.array(named)  # else it lacks antennas: no rectangle
    except (KeyError, TypeError, ValueError) as error:
        raise BadFingerprintFile("spec.json has no antennas with assignments, lists of rows of channels") from error
    if not arrays:
        raise BadFingerprintFile(f"spec.json has no whole array of the {channels} channels")
    return {"csi": arrays["array-1"]} if len(spec["antennas"]) == 1 else arrays


def _read_offsets(path: Path, channels: int, subcarriers: int) -> NDArray[np.complex64]:
    """The factors that make the channels coherent, `[channels, subcarriers]`; ones if no file has their offsets."""
    name = f"reftx-offsets-{path.stem}.json"
    offsets = _read_json(_find_beside(path, name))
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


def _find_beside(path: Path, name: str) -> Path | None:
    return next((folder / name for folder in (path.parent, path.parent.parent) if (folder / name).is_file()), None)


def _read_json(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise BadFingerprintFile(f"{path.name} is not JSON: {error}") from error

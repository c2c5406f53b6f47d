"""Which variable of a file is which field of fingerprints: by its usual names, or as a person says."""

from collections.abc import Mapping
from pathlib import Path

from reference_db.errors import BadFingerprintFile
from reference_db.sources.source import Source

# The names that programs usually give to each field, in lower case.
_NAMES: dict[str, tuple[str, ...]] = {
    "csi": ("csi", "h", "cfr", "channel", "channels", "channel_response", "channel_frequency_response"),
    "csi_real": ("csi_real", "csi_re", "h_real", "h_re"),
    "csi_imag": ("csi_imag", "csi_im", "h_imag", "h_im"),
    "scale": ("scale",),
    "positions": ("positions", "position", "pos", "xy", "locations", "location", "loc", "coordinates", "coords"),
    "x": ("x", "east", "x_m", "east_m"),
    "y": ("y", "north", "y_m", "north_m"),
    "latitudes_deg": ("latitudes_deg", "latitude_deg", "latitudes", "latitude", "lats", "lat", "lat_deg"),
    "longitudes_deg": (
        *("longitudes_deg", "longitude_deg", "longitudes", "longitude"),
        *("lons", "lon", "lon_deg", "lng", "long"),
    ),
    "times": ("times", "time", "timestamps", "timestamp", "unix_time", "t"),
    "sigmas": ("sigmas", "sigma", "sigma_m", "sigmas_m", "position_sigma"),
}
FIELDS = tuple(_NAMES)
# Names in published data sets: those of ALLoc. They count only together, where a field has no usual name.
_PUBLISHED = {"csi": "data", "positions": "data_loc"}
_WAYS = (frozenset(("positions",)), frozenset(("x", "y")), frozenset(("latitudes_deg", "longitudes_deg")))
_PLACES = frozenset().union(*_WAYS)


def choose_variables(source: Source, fields: Mapping[str, str]) -> dict[str, str]:
    """The name of the variable of each field that the file has. `fields` says what a person said, also by other names.

    Raises `BadFingerprintFile` for a name that the file does not have, where two variables have usual names of one
    field, and for CSI under a published name whose positions are missing.
    """
    chosen = {field: source.other_names.get(name, name) for field, name in fields.items()}
    for field, name in chosen.items():
        if name not in source.variables:
            raise BadFingerprintFile(f"there is no {name} for {field}; {source.describe()}")
    given = _PLACES.intersection(fields)
    left = [name for name in source.variables if name not in chosen.values()]
    for field, usual in _NAMES.items():
        if field in chosen or (field == "csi" and "csi_real" in chosen):
            continue
        if field in _PLACES and any(field not in places and given & places for places in _WAYS):
            continue  # a person named another field that says where fingerprints are
        found = [name for name in left if _last_part(name) in usual]
        if len(found) > 1:
            exact = [name for name in found if name == field]
            if not exact:
                raise BadFingerprintFile(f"{' and '.join(found)} may be {field}; choose with --field {field}=NAME")
            found = exact
        if found:
            chosen[field] = found[0]
    if set(_PUBLISHED.values()) <= source.variables.keys():
        if not {"csi", "csi_real"} & chosen.keys():
            chosen["csi"] = _PUBLISHED["csi"]
        if not _PLACES & chosen.keys():
            chosen["positions"] = _PUBLISHED["positions"]
    elif _PUBLISHED["csi"] in source.variables and not (_PLACES | {"csi", "csi_real"}) & chosen.keys():
        csi, positions = _PUBLISHED["csi"], _PUBLISHED["positions"]
        raise BadFingerprintFile(
            f"the positions {positions} are missing, so {csi} is not taken for the CSI; {source.describe()}; "
            f"if {csi} is the CSI, state --field csi={csi}"
        )
    return chosen


def is_name_of(field: str, name: str) -> bool:
    """Whether a variable of this name is usually that field."""
    return _last_part(name) in _NAMES[field]


def names_csi(path: Path) -> str | None:
    """What comes before the name of CSI in the name of a file; None if the file does not have such a name."""
    stem = path.stem.lower()
    for name in sorted(_NAMES["csi"], key=len, reverse=True):
        prefix = stem.removesuffix(name)
        if prefix != stem and (not prefix or not prefix[-1].isalnum()):
            return path.stem[: len(prefix)]
    return None


def _last_part(name: str) -> str:
    """Of the field of a structure, its own name."""
    return name.rpartition(".")[2].lower()

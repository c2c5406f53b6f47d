"""What an operator asks of the whole service: its cells, its models, how it is."""

from urllib.parse import quote

from fingerpost.exchange import Attempt, Exchange, ask
from fingerpost.wire_artifacts import ModelList
from fingerpost.wire_cells import CellList
from fingerpost.wire_health import Latency, Live, Ready
from fingerpost.wire_keys import KeyList
from fingerpost.wire_versions import CollectedVersions


def list_cells(_: object) -> Exchange[CellList]:
    """The current version of each cell in short, how the service serves it, and the cells that cannot be read."""
    return ask(Attempt("GET", "/cells"), CellList)


def collect_versions(_: object, cell_id: str | None = None, *, dry_run: bool = False) -> Exchange[CollectedVersions]:
    """Removes the old versions that the service's settings no longer keep: of all cells, or of one.

    With `dry_run` removes nothing and says what would be removed.
    """
    params = {"dryRun": str(dry_run).lower()} | ({} if cell_id is None else {"cell": cell_id})
    return ask(Attempt("POST", "/versions/collect", params, slow=True), CollectedVersions)


def list_models(_: object) -> Exchange[ModelList]:
    """The artifacts that locate users, those that can be activated, and what each replica serves."""
    return ask(Attempt("GET", "/models"), ModelList)


def activate_model(_: object, folder: str, *, force: bool = False) -> Exchange[ModelList]:
    """Lets the artifact in `folder`, as `list_models` names it, take over from the active one of its family.

    The service first compares the two in some cells; `force` activates the artifact even if users would be located far
    worse, or no cell can be compared. The other replicas follow within seconds: `replicas` says what each one serves.
    """
    path = f"/models/{quote(folder, safe='')}:activate"
    return ask(Attempt("POST", path, {"force": str(force).lower()}, harmless=False, slow=True), ModelList)


def list_keys(_: object) -> Exchange[KeyList]:
    """The API keys in force, what they allow, and when each was last used at any replica; neither keys nor hashes."""
    return ask(Attempt("GET", "/keys"), KeyList)


def check_live(_: object) -> Exchange[Live]:
    """Whether the process answers. Needs no key."""
    return ask(Attempt("GET", "/health/live"), Live)


def check_ready(_: object) -> Exchange[Ready]:
    """Whether users can be located; raises `Refused` with the reason otherwise. Needs no key."""
    return ask(Attempt("GET", "/health/ready"), Ready)


def show_latency(_: object) -> Exchange[Latency]:
    """Histograms of the duration of each stage, since this replica started."""
    return ask(Attempt("GET", "/latency"), Latency)

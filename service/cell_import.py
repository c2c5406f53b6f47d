"""``fingerpost cells import``: a file becomes a version of a cell, with what the artifact makes of it."""

from datetime import UTC, datetime
from pathlib import Path

from models.artifact import load_artifact
from reference_db.cell import Cell
from reference_db.cell_version import CellVersion
from reference_db.directory_store import DirectoryStore
from reference_db.errors import BadFingerprintFile
from reference_db.fingerprint_file import read_cell_file, read_fingerprint_file
from reference_db.fingerprints import Fingerprints
from reference_db.importing import import_fingerprints
from reference_db.manifest import Manifest, SegmentReference
from reference_db.segment import Segment, digest_of
from service.calibration import Calibration, calibrate
from service.estimator import Estimator
from service.metrics import Metrics
from service.network import Network
from service.settings import Settings


def import_cell(
    settings: Settings, cell_id: str, file: Path, cell_file: Path | None, note: str, *, calibrated: bool
) -> Manifest:
    """Imports `file` as cell `cell_id`; whatever is raised, the database is as it was.

    Raises a `ReferenceDatabaseError` for a bad file, `CellNotServed` or `CellTooSmall` when the artifact
    cannot serve the cell, `ArtifactError` or `NetworkUnusable` for a bad artifact. Not `calibrated`, it needs
    no artifact.
    """
    described = None if cell_file is None else read_cell_file(cell_file)
    cell, fingerprints = read_fingerprint_file(file, described)
    if cell.cell_id != cell_id:
        raise BadFingerprintFile(f"{(cell_file or file).name} describes cell {cell.cell_id!r}, not {cell_id!r}")
    now = datetime.now(UTC)
    quality = {}
    if calibrated:
        calibration, digest = measure(settings, cell, fingerprints, now)
        quality = calibration.as_quality(digest)
    store = DirectoryStore(settings.database_directory)
    return import_fingerprints(store, cell, fingerprints, quality, note, now)


def measure(settings: Settings, cell: Cell, fingerprints: Fingerprints, now: datetime) -> tuple[Calibration, str]:
    """The errors of the settings' artifact in a cell that no store holds yet, and the artifact's digest.

    Raises what `service.calibration.calibrate` raises, and `ArtifactError` or `NetworkUnusable`.
    """
    artifact = load_artifact(settings.artifact_directory)
    network = Network(artifact, settings.inference_threads, settings.execution_providers)
    try:
        version = _unpublished(cell, fingerprints, now)
        estimator = Estimator(network, settings.inference_batch, settings.frame_cache_bytes, Metrics())
        return calibrate(artifact, estimator, version, settings), artifact.digest
    finally:
        network.close()


def _unpublished(cell: Cell, fingerprints: Fingerprints, now: datetime) -> CellVersion:
    """The version that the import would publish, numbers rounded as the store will round them."""
    data = Segment.of(fingerprints).to_bytes()
    reference = SegmentReference(digest=digest_of(data), count=len(fingerprints))
    manifest = Manifest(cell=cell, number=1, parent=None, segments=(reference,), quality={}, created_at=now, note="")
    return CellVersion.assemble(manifest, [Segment.from_bytes(data, reference.digest)])

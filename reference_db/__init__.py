"""Fingerpost's reference database: each cell's fingerprints, versioned, stored and ready to be searched.

Units are SI; positions are metres east and north of the cell's base station.
"""

from reference_db.cell import AntennaArray, Cell
from reference_db.cell_version import CellVersion, Extent
from reference_db.database import ReferenceDatabase
from reference_db.directory_store import DirectoryStore
from reference_db.errors import (
    BadFingerprint,
    BadFingerprintFile,
    CorruptManifest,
    CorruptSegment,
    MissingSegment,
    ReferenceDatabaseError,
    TooFewFingerprints,
    UnknownCell,
    VersionConflict,
)
from reference_db.fingerprint_file import read_cell_file, read_fingerprint_file, write_fingerprint_file
from reference_db.fingerprints import Fingerprints, check_fingerprints
from reference_db.geodesy import LocalFrame
from reference_db.importing import import_fingerprints
from reference_db.knn import weighted_knn
from reference_db.manifest import Manifest, SegmentReference
from reference_db.position_index import PositionIndex
from reference_db.retrieval import Mode, References, first_guess, first_neighbourhood, next_neighbourhood
from reference_db.segment import Segment
from reference_db.signal_feature import signal_feature
from reference_db.signal_index import SignalIndex
from reference_db.store import Store

__all__ = [
    "AntennaArray",
    "BadFingerprint",
    "BadFingerprintFile",
    "Cell",
    "CellVersion",
    "CorruptManifest",
    "CorruptSegment",
    "DirectoryStore",
    "Extent",
    "Fingerprints",
    "LocalFrame",
    "Manifest",
    "MissingSegment",
    "Mode",
    "PositionIndex",
    "ReferenceDatabase",
    "ReferenceDatabaseError",
    "References",
    "Segment",
    "SegmentReference",
    "SignalIndex",
    "Store",
    "TooFewFingerprints",
    "UnknownCell",
    "VersionConflict",
    "check_fingerprints",
    "first_guess",
    "first_neighbourhood",
    "import_fingerprints",
    "next_neighbourhood",
    "read_cell_file",
    "read_fingerprint_file",
    "signal_feature",
    "weighted_knn",
    "write_fingerprint_file",
]

"""The public names of `reference_db`."""

from reference_db.cell import AntennaArray, Area, Cell
from reference_db.cell_version import CellVersion, Extent
from reference_db.contents import Contents, read_contents
from reference_db.errors import (
    BadFingerprint,
    BadFingerprintFile,
    BadUpdate,
    CorruptManifest,
    CorruptSegment,
    MissingSegment,
    ReferenceDatabaseError,
    StoreFull,
    StoreUnavailable,
    TooFewFingerprints,
    UnknownVersion,
    VersionConflict,
)
from reference_db.fingerprint_file import read_cell_file, read_fingerprint_file, write_fingerprint_file
from reference_db.fingerprints import Fingerprints, check_fingerprints
from reference_db.geodesy import LocalFrame
from reference_db.history import HistoryPolicy, collect_history
from reference_db.importing import import_fingerprints
from reference_db.index.position import PositionIndex
from reference_db.index.signal import SignalIndex
from reference_db.index.signal_features import signal_feature
from reference_db.knn import weighted_knn
from reference_db.manifest import Change, Manifest, ModelPolicy, RequestKey, SegmentReference
from reference_db.references import References
from reference_db.retention import Retention
from reference_db.retrieval import Mode, first_guess, first_neighbourhood, next_neighbourhood
from reference_db.segment import Segment
from reference_db.stores.directory import DirectoryStore
from reference_db.stores.opening import open_store
from reference_db.stores.store import News, Removal, Store
from reference_db.update import (
    Origin,
    Update,
    append_fingerprints,
    apply_retention,
    correct_cell,
    delete_fingerprints,
    forget_fingerprints,
    replace_cell,
    roll_back,
    set_model_policy,
    set_retention,
)

__all__ = [
    "AntennaArray",
    "Area",
    "BadFingerprint",
    "BadFingerprintFile",
    "BadUpdate",
    "Cell",
    "CellVersion",
    "Change",
    "Contents",
    "CorruptManifest",
    "CorruptSegment",
    "DirectoryStore",
    "Extent",
    "Fingerprints",
    "HistoryPolicy",
    "LocalFrame",
    "Manifest",
    "MissingSegment",
    "Mode",
    "ModelPolicy",
    "News",
    "Origin",
    "PositionIndex",
    "ReferenceDatabaseError",
    "References",
    "Removal",
    "RequestKey",
    "Retention",
    "Segment",
    "SegmentReference",
    "SignalIndex",
    "Store",
    "StoreFull",
    "StoreUnavailable",
    "TooFewFingerprints",
    "UnknownVersion",
    "Update",
    "VersionConflict",
    "append_fingerprints",
    "apply_retention",
    "check_fingerprints",
    "collect_history",
    "correct_cell",
    "delete_fingerprints",
    "first_guess",
    "first_neighbourhood",
    "forget_fingerprints",
    "import_fingerprints",
    "next_neighbourhood",
    "open_store",
    "read_cell_file",
    "read_contents",
    "read_fingerprint_file",
    "replace_cell",
    "roll_back",
    "set_model_policy",
    "set_retention",
    "signal_feature",
    "weighted_knn",
    "write_fingerprint_file",
]

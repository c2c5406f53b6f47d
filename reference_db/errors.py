"""The errors of the reference database."""


class ReferenceDatabaseError(Exception):
    """Base class of all errors below. Its text is written for operators."""


class BadFingerprint(ReferenceDatabaseError):
    """A fingerprint is not acceptable. `row` counts from 0; `reason` says what is wrong and what is expected."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row}: {reason}")
        self.row = row
        self.reason = reason


class BadFingerprintFile(ReferenceDatabaseError):
    """An import file cannot be read: its format, its arrays or its cell description is wrong."""


class TooFewFingerprints(ReferenceDatabaseError):
    """The caller asked for more fingerprints than there are."""

    def __init__(self, wanted: int, available: int) -> None:
        super().__init__(f"at least {wanted} fingerprints needed, {available} available")
        self.wanted = wanted
        self.available = available


class UnknownVersion(ReferenceDatabaseError):
    """The cell has no version with this number, or no longer keeps it."""

    def __init__(self, cell_id: str, number: int) -> None:
        super().__init__(f"cell {cell_id!r} has no version {number}")
        self.cell_id = cell_id
        self.number = number


class BadUpdate(ReferenceDatabaseError):
    """The update does not fit the current state of the cell. The fingerprints themselves are not at fault."""


class StoreUnavailable(ReferenceDatabaseError):
    """The store cannot be reached or does not answer in time. The request may or may not have taken effect."""


class StoreMissing(StoreUnavailable):
    """The directory of the store does not exist: its file system is not mounted, or nothing was published yet."""


class StoreFull(StoreUnavailable):
    """The store has no space left for a write. Reads still work."""


class StoreForbidden(StoreUnavailable):
    """This process lacks a permission: most often the store is read-only for it, and reads still work."""


class CorruptSegment(ReferenceDatabaseError):
    """The bytes of a segment do not match its digest, or are not a segment."""


class MissingSegment(ReferenceDatabaseError):
    """The store has no segment with this digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"no segment {digest}")
        self.digest = digest


class CorruptManifest(ReferenceDatabaseError):
    """A manifest cannot be read, does not match its digest, or contradicts its segments."""


class VersionConflict(ReferenceDatabaseError):
    """Another writer published first: the current manifest is not the expected one."""

    def __init__(self, cell_id: str, expected: str | None, current: str | None) -> None:
        super().__init__(f"cell {cell_id!r}: expected manifest {expected}, found {current}")
        self.cell_id = cell_id
        self.expected = expected
        self.current = current

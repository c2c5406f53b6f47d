"""The errors of the reference database."""

from collections.abc import Sequence


class ReferenceDatabaseError(Exception):
    """Base class of all errors below. Its text is written for operators."""


class BadFingerprint(ReferenceDatabaseError):
    """A fingerprint is not acceptable. `row` counts from 0; `reason` says what is wrong, `advice` what to do."""

    def __init__(self, row: int, reason: str, advice: str | None = None) -> None:
        super().__init__(f"row {row}: {reason}" + (f"; {advice}" if advice else ""))
        self.row = row
        self.reason = reason
        self.advice = advice


class BadFingerprintFile(ReferenceDatabaseError):
    """An import file cannot be read: its format, its arrays or its cell description is wrong."""


class BadCellDescription(BadFingerprintFile):
    """A cell description cannot be read. `faults` says what is wrong in `file`, if it is one: a sentence a fault."""

    def __init__(self, faults: Sequence[str], file: str | None = None) -> None:
        place = "" if file is None else f"{file}: "
        super().__init__(f"{place}the cell description is invalid: {'; '.join(faults)}")
        self.faults = [place + fault for fault in faults]


class UndescribedCell(BadFingerprintFile):
    """An import file describes no cell, and no description was given."""


class BadHoldOut(ReferenceDatabaseError):
    """Fingerprints have too few locations to hold some of them out, or one location that has most of them."""

    def __init__(self, fingerprints: int, locations: int, largest: int) -> None:
        super().__init__(f"its {fingerprints} fingerprints are {locations} locations, the largest of them of {largest}")


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


class CorruptTruths(ReferenceDatabaseError):
    """The counts of a cell's truths cannot be read. Users are still located."""


class VersionConflict(ReferenceDatabaseError):
    """Another writer published first: the current manifest is not the expected one."""

    def __init__(self, cell_id: str, expected: str | None, current: str | None) -> None:
        super().__init__(f"cell {cell_id!r}: expected manifest {expected}, found {current}")
        self.cell_id = cell_id
        self.expected = expected
        self.current = current


class BadBackup(ReferenceDatabaseError):
    """A backup cannot be read: it is incomplete or damaged, or no backup."""


class CellsExist(ReferenceDatabaseError):
    """The store holds other versions of cells that a backup holds. `reasons`: a sentence for each cell."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = list(reasons)

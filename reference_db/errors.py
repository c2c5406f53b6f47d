"""Everything that the reference database raises on purpose."""


class ReferenceDatabaseError(Exception):
    """Base of all errors below; its text is fit to be shown to an operator."""


class BadFingerprint(ReferenceDatabaseError):
    """One fingerprint cannot be accepted. `row` counts from 0, `reason` says what is wrong with it."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row}: {reason}")
        self.row = row
        self.reason = reason


class BadFingerprintFile(ReferenceDatabaseError):
    """An import file as a whole cannot be read: its format, its arrays or its cell description."""


class TooFewFingerprints(ReferenceDatabaseError):
    """More fingerprints were asked for than there are."""

    def __init__(self, wanted: int, available: int) -> None:
        super().__init__(f"{wanted} fingerprints wanted, {available} available")
        self.wanted = wanted
        self.available = available


class UnknownVersion(ReferenceDatabaseError):
    """The cell has no version of this number, or keeps it no longer."""

    def __init__(self, cell_id: str, number: int) -> None:
        super().__init__(f"cell {cell_id!r} has no version {number}")
        self.cell_id = cell_id
        self.number = number


class BadUpdate(ReferenceDatabaseError):
    """An update cannot be made of the cell as it is; nothing is wrong with any one fingerprint."""


class StoreUnavailable(ReferenceDatabaseError):
    """The store cannot be reached, or does not answer in time; nothing is known of what was asked of it."""


class StoreFull(StoreUnavailable):
    """The store has no room for what was to be written; what it has can be read."""


class CorruptSegment(ReferenceDatabaseError):
    """The bytes of a segment are not the ones its digest promises, or are not a segment at all."""


class MissingSegment(ReferenceDatabaseError):
    """The store holds no segment of this digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"no segment {digest}")
        self.digest = digest


class CorruptManifest(ReferenceDatabaseError):
    """A manifest cannot be read, is not the one its digest promises, or contradicts its segments."""


class VersionConflict(ReferenceDatabaseError):
    """Somebody else published first: the current manifest is not the one that was expected."""

    def __init__(self, cell_id: str, expected: str | None, current: str | None) -> None:
        super().__init__(f"cell {cell_id!r}: expected manifest {expected}, found {current}")
        self.cell_id = cell_id
        self.expected = expected
        self.current = current

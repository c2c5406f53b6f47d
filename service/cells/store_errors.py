"""Translates errors of the reference database into errors of the service."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from reference_db.errors import (
    BadFingerprint,
    BadFingerprintFile,
    BadUpdate,
    CorruptTruths,
    ReferenceDatabaseError,
    StoreForbidden,
    StoreFull,
    StoreUnavailable,
    TooFewFingerprints,
    UnknownVersion,
    VersionConflict,
)
from service import errors

_log = logging.getLogger("fingerpost.cells")


@contextmanager
def translate_store_errors() -> Iterator[None]:
    """Raises a `ServiceError` in place of every `ReferenceDatabaseError` and `MemoryError`."""
    try:
        yield
    except BadFingerprint as error:
        reason = f"{error.reason}; {error.advice}" if error.advice else error.reason
        raise errors.FingerprintRefused(f"/fingerprints/{error.row}", reason) from error
    except (BadFingerprintFile, TooFewFingerprints) as error:
        raise errors.FingerprintsUnreadable(str(error)) from error
    except BadUpdate as error:
        raise errors.UpdateRefused(str(error)) from error
    except UnknownVersion as error:
        raise errors.VersionNotFound("/version", f"no version {error.number}") from error
    except VersionConflict as error:
        raise errors.PreconditionFailed("another request has changed the cell meanwhile") from error
    except MemoryError as error:
        _log.warning("out of memory: %s", error)
        raise errors.OutOfMemory("not enough memory for this request") from error
    except StoreFull as error:
        _log.warning("%s", error)
        raise errors.StorageFull("the reference database is full") from error
    except StoreForbidden as error:
        _log.warning("%s", error)
        raise errors.StoreDown(f"this replica lacks a permission: {error}") from error
    except StoreUnavailable as error:
        _log.warning("%s", error)
        raise errors.StoreDown("the reference database cannot be reached") from error
    except CorruptTruths as error:
        _log.warning("%s", error)
        raise errors.CellUnreadable("the counts of the cell's truths are damaged; users are still located") from error
    except ReferenceDatabaseError as error:
        _log.warning("%s", error)
        raise errors.CellUnreadable("the cell's fingerprints cannot be read") from error

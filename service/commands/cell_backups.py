"""``fingerpost cells backup`` and ``restore``: the cells of a reference database in one file."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.cell_options import Author, name_author
from service.commands.options import Database, fail, load_settings, print_json

if TYPE_CHECKING:
    from reference_db.stores.store import Store

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")]
Archive = Annotated[Path, typer.Argument(help="The backup: a tar archive.")]


def backup(
    archive: Archive,
    current_only: Annotated[
        bool, typer.Option("--current-only", help="Only the current version of each cell, without its history.")
    ] = False,
    database: Database = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    json: Json = False,
) -> None:
    """Write all cells of a reference database to one file, with their versions. The service may go on meanwhile.

    Exit status 1: something was damaged and is left out.
    """
    from reference_db.backup import write_backup
    from reference_db.errors import StoreUnavailable

    if archive.exists() and not force:
        fail(f"{archive} exists; --force overwrites it")
    with _open_store(database) as (store, place), _show_progress("writing") as report:
        try:
            index = write_backup(store, archive, current_only=current_only, report=report)
        except StoreUnavailable as error:
            fail(f"no backup of {place}: {error}")
        except OSError as error:
            fail(f"{archive} cannot be written: {error.strerror or error}")
    versions = sum(len(cell.versions) for cell in index.cells)
    if json:
        counts = {"cells": len(index.cells), "versions": versions, "leftOut": list(index.left_out)}
        print_json({"archive": str(archive), "database": place, **counts})
    else:
        typer.echo(f"{len(index.cells)} cells, {versions} versions of {place} written to {archive}")
    if index.left_out:
        fail("\n".join(f"left out: {one}" for one in index.left_out))


def restore(
    archive: Archive,
    database: Database = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the backup and the database, write nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also restore cells that the database has with other versions, or whose fingerprints are damaged: the "
            "backup's current version becomes their newest version.",
        ),
    ] = False,
    author: Author = None,
    json: Json = False,
) -> None:
    """Write the cells of a backup to a reference database of any kind, with their versions.

    Checks all of the backup first. A cell that is there already stays as it is, and an interrupted restore is completed
    by a second one.
    """
    from reference_db.backup import Backup
    from reference_db.errors import BadBackup, CellsExist, ReferenceDatabaseError
    from reference_db.restoring import restore_backup

    try:
        with _show_progress("checking") as report:
            opened = Backup.open(archive, report)
    except BadBackup as error:
        fail(str(error))
    except OSError as error:
        fail(f"{archive} cannot be read: {error.strerror or error}")
    with closing(opened), _open_store(database) as (store, place), _show_progress("restoring") as report:
        try:
            restored = restore_backup(
                opened, store, name_author(author), datetime.now(UTC), force=force, dry_run=dry_run, report=report
            )
        except CellsExist as error:
            advice = "--force publishes the backup's current version of such cells as their newest version"
            fail("\n".join([*error.reasons, f"nothing was restored; {advice}"]))
        except (ReferenceDatabaseError, OSError) as error:
            fail(f"the restore into {place} is incomplete: {error}; run it again")
    if json:
        counts = {"restored": restored.whole, "replaced": restored.replaced, "present": restored.present}
        print_json({"archive": str(archive), "database": place, "dryRun": dry_run, **counts})
        return
    would = "would be " if dry_run else ""
    typer.echo(
        f"{restored.whole} cells {would}restored, {restored.replaced} {would}replaced by a new version, "
        f"{restored.present} were there already: {place}"
    )


@contextmanager
def _open_store(database: str | None) -> "Iterator[tuple[Store, str]]":
    """The reference database and its name for people. Exits if it cannot be opened."""
    from reference_db.errors import StoreUnavailable
    from reference_db.stores.opening import open_store

    settings = load_settings(database)
    place = settings.database
    try:
        store = open_store(settings.redis_url or settings.database_directory)
    except (StoreUnavailable, ValueError) as error:
        fail(f"the reference database {place} cannot be used: {error}")
    try:
        yield store, place
    finally:
        store.close()


@contextmanager
def _show_progress(doing: str) -> Iterator[Callable[[str], None]]:
    """What to call with the name of each cell. Shows it on a terminal."""
    from rich.console import Console

    with Console(stderr=True).status(doing) as status:
        yield lambda cell_id: status.update(f"{doing} {cell_id}")

"""What lies on the disk for nobody: uploads that broke off, run directories whose work has ended, releases that
nobody tries any more. Blobs are garbage.py's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings

from finetuning.models import Attempt, Run
from finetuning.models.runs import RunStatus
from finetuning.runner import LOG_FILE
from finetuning.services import workspaces
from marketplace import storage

KEPT_FOR = timedelta(hours=24)
LOGS_KEPT_FOR = timedelta(days=30)  # of failed runs, for the operator
LOG_BYTES = 64 * 1024


def sweep(*, now: datetime) -> int:
    """Removes what nobody has needed for a day and returns how many things that were. Of a failed run the end
    of its logs stays, as `VERB.log` in its directory, for a month."""
    late = now - KEPT_FOR
    gone = [*_files(late), *_serving(late), *_run_directories(now, late)]
    for path in gone:
        _remove(path)
    return len(gone)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_older(path: Path, than: datetime) -> bool:
    try:
        return path.stat().st_mtime < than.timestamp()
    except FileNotFoundError:  # it was finished or removed meanwhile
        return False


def _files(late: datetime) -> Iterator[Path]:
    blobs = [path for path in _children(Path(settings.STORAGE_DIR)) if path.name.startswith(storage.INCOMING)]
    for path in (*blobs, *_children(Path(settings.FILE_UPLOAD_TEMP_DIR))):
        if _is_older(path, late):
            yield path


def _serving(late: datetime) -> Iterator[Path]:
    for path in _children(Path(settings.SERVING_DIR)):
        if not _is_older(path, late):
            continue
        # Under another name first, so that no prediction ever meets half a directory.
        doomed = path.with_name(f"{workspaces.LAYING_OUT}{path.name}-gone")
        path.rename(doomed)
        yield doomed


def _run_directories(now: datetime, late: datetime) -> Iterator[Path]:
    for path in _children(Path(settings.RUNS_DIR)):
        kind, _, number = path.name.partition("-")
        if kind not in ("run", "dataset", "release") or not number.isdecimal():
            continue
        recent = Attempt.objects.filter(**{kind: int(number)}).exclude(started_at__lt=late, ended_at__isnull=False)
        run = Run.objects.filter(pk=int(number)).first() if kind == "run" else None
        if recent.exists() or (run is not None and not _has_ended(run, late)):
            continue
        if run is not None and run.status == RunStatus.FAILED and not _has_ended(run, now - LOGS_KEPT_FOR):
            yield from _all_but_logs(path)
        else:
            yield path


def _has_ended(run: Run, before: datetime) -> bool:
    return run.is_terminal and run.finished_at is not None and run.finished_at < before


def _all_but_logs(directory: Path) -> Iterator[Path]:
    for verb in _children(directory):
        if not verb.is_dir():
            continue
        if (log := verb / LOG_FILE).is_file():
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - LOG_BYTES))
                (directory / f"{verb.name}.log").write_bytes(file.read())
        yield verb


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

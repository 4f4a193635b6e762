"""What lies on the disk for nobody: uploads that broke off, run directories whose work has ended, releases that
nobody tries any more. Blobs are garbage.py's."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from django.conf import settings

from finetuning.engine import plain_files
from finetuning.models import Attempt, Run
from finetuning.models.attempts import SUBJECTS
from finetuning.models.runs import RunStatus
from finetuning.runner import LOG_FILE
from finetuning.services import workspaces
from marketplace import storage
from marketplace.uploads import services as uploads
from models_catalog.services import commits, sent_files

logger = logging.getLogger(__name__)
KEPT_FOR = timedelta(hours=24)
LOGS_KEPT_FOR = timedelta(days=30)  # of failed runs, for the operator
LOG_BYTES = 64 * 1024


def sweep(*, now: datetime) -> int:
    """Removes what nobody has needed for a day and returns how many things that were. Of a failed run the end
    of its logs stays, as `VERB.log` in its directory, for a month, where the disk has room for it.

    Each thing goes as soon as it is found, what frees most first: a disk that is full is why this is needed."""
    late, count = now - KEPT_FOR, 0
    for path in chain(_files(late), _serving(late), _run_directories(now, late)):
        _remove(path)
        count += 1
    forgotten = uploads.forget(now=now) + sent_files.forget(now=now) + commits.forget(now=now)
    return count + forgotten + storage.drop_broken_uploads()


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_older(path: Path, than: datetime) -> bool:
    try:
        return path.stat().st_mtime < than.timestamp()
    except FileNotFoundError:  # it was finished or removed meanwhile
        return False


def _files(late: datetime) -> Iterator[Path]:
    blobs = [path for path in _children(Path(settings.STORAGE_DIR)) if path.name.startswith(storage.INCOMING)]
    # Copies of blobs that lie in a bucket; the blobs of a disk are for `garbage` to judge.
    copies = storage.on_disk() if settings.STORAGE_BUCKET else []
    for path in (*blobs, *copies, *_children(Path(settings.FILE_UPLOAD_TEMP_DIR))):
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
        if kind not in SUBJECTS or not number.isdecimal():
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
        _keep_end_of_log(verb, directory / f"{verb.name}.log")
        yield verb


def _keep_end_of_log(run_dir: Path, target: Path) -> None:
    try:
        with plain_files.reading(run_dir, LOG_FILE) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            target.write_bytes(file.read(LOG_BYTES))
    except FileNotFoundError:
        return
    except (OSError, plain_files.ForeignFileError) as error:  # a full disk: its room is needed more than this log
        logger.warning("the log of a failed run is lost: %s", error)


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:  # the others must go all the same
        logger.warning("not removed: %s", error)

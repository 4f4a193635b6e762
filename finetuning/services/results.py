"""What a run has made, used without being published: predicted with, or taken along."""

from __future__ import annotations

from datetime import datetime

from finetuning import policies
from finetuning.models import Run
from finetuning.services import workspaces
from finetuning.services.runs import RELEASE_FOLDER
from marketplace import storage
from marketplace.accounts.models import User
from marketplace.decisions import require
from models_catalog.services import seats

_PREFIX = f"{RELEASE_FOLDER}/"


def files_of(run: Run) -> dict[str, storage.Blob]:
    """Returns the files of the tuned weights by path."""
    return {
        path.removeprefix(_PREFIX): storage.Blob(entry["sha256"], entry["bytes"])
        for path, entry in run.artifacts.items()
        if path.startswith(_PREFIX)
    }


def open_to(user: User, run: Run, *, now: datetime) -> None:
    """Asks whether the user may use the result, and takes the seat that the model's license may want. Raises Denied as
    `may_use_result` and `seats.use` say, Conflict (`no_result`)."""
    require(policies.may_use_result(user, run, now=now))
    seats.use(user=user, release=run.release, now=now, holder=run.owner)


def lay_out(run: Run) -> str:
    """Makes the result readable by the predictor and returns its directory's name."""
    files = {path: blob.sha256 for path, blob in files_of(run).items()}
    return workspaces.lay_out_tuned(run.release, files, task=run.task)

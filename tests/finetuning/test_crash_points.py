"""A process dies at each named place once: what it leaves behind is taken up, nothing is lost and nothing done twice."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import doorbell
import pytest
import scenarios
import warm_engine
import worlds
from chaos import invariants
from django.conf import settings as site_settings
from django.core.management import call_command
from django.db import connections
from django.utils import timezone
from receivers import receiver, verifies
from shapes_factory import LABELS, weights_at, write_pack, write_release
from worlds import World

from finetuning import tasks
from finetuning.engine import crash_points, results
from finetuning.engine import spec as specs
from finetuning.engine.crash_points import Point
from finetuning.engine.hyper import Hyper, Strategy
from finetuning.engine.spec import Split, TrainSpec, Verb
from finetuning.models import Dataset, Run
from finetuning.models.attempts import DRAINED
from finetuning.models.runs import ACTIVE, RunStatus
from finetuning.runner import read_result
from finetuning.services import leases, reaping, runs, steering, workspaces
from marketplace import storage
from marketplace.accounts.services import people
from marketplace.errors import Conflict
from marketplace.queue import Job
from marketplace.uploads import services as uploads
from marketplace.webhook_settings import allowed
from marketplace.webhooks.events import EventType
from marketplace.webhooks.models import MessageStatus
from marketplace.webhooks.services import delivery, endpoints, outbox
from models_catalog.models import LedgerTransaction, Release, ledger_guard

pytestmark = pytest.mark.django_db(transaction=True)
LATER = timedelta(seconds=90)  # when the reaper rings for what nobody has touched
WEIGHTS = "release/model.safetensors"
AT_LAUNCH = (Point.LAUNCH_COMMITTING, Point.MESSAGE_SENDING, Point.MESSAGE_SENT)
AT_WORK = (
    Point.CLAIM_COMMITTING,
    Point.CLAIM_COMMITTED,
    Point.INPUTS_LINKED,
    Point.ENGINE_STARTING,
    Point.ENGINE_STARTED,
    Point.ENGINE_ENDED,
    Point.BLOB_WRITTEN,
    Point.BLOB_SYNCED,
    Point.BLOB_RENAMED,
    Point.BLOB_STORED,
    Point.OUTPUTS_COLLECTED,
    Point.FINISH_COMMITTING,
    Point.FINISH_COMMITTED,
    Point.MESSAGE_HANDLED,
)
AT_WISH = (Point.CANCEL_COMMITTING, Point.CANCEL_COMMITTED)
AT_STOP = (Point.CANCEL_HEARD, Point.TERMINATE_SENT, Point.CANCELED_COMMITTING, Point.PAUSE_SENT)
AT_RETURN = (Point.FAIL_COMMITTING, Point.HAND_BACK_COMMITTING)
AT_REAPING = (Point.EXPIRE_COMMITTING, Point.EXPIRE_COMMITTED)
AT_PUBLISHING = (Point.PUBLISH_COMMITTING, Point.PUBLISH_COMMITTED)
IN_PIECES = (Point.PIECE_SYNCED, Point.PIECE_SAVED, Point.UPLOAD_KEPT)
AT_SENDING = (Point.WEBHOOK_CLAIMED, Point.WEBHOOK_ANSWERED, Point.WEBHOOK_COMMITTING)
AT_UPLOAD = (Point.UPLOAD_STORED, Point.INSPECTION_COMMITTING)
IN_ENGINE = (
    Point.LOCK_TAKEN,
    Point.CHECKPOINT_WRITTEN,
    Point.CHECKPOINT_SYNCED,
    Point.CHECKPOINT_RENAMED,
    Point.CHECKPOINT_SAVED,
    Point.OUTPUTS_SYNCED,
    Point.RESULT_WRITTEN,
    Point.RESULT_SYNCED,
    Point.RESULT_RENAMED,
    Point.RESULT_SAVED,
)


def dies_at(point: Point, act: Callable[[], Any]) -> None:
    """Does it in a process of its own, which kills itself there."""
    connections.close_all()  # no connection is shared with it
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            crash_points.arm(point)
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"it came past {point}: {status}"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.fixture(autouse=True)
def _django_db_helper(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:  # noqa: ARG001 - opens it
    """In the place of pytest-django's own, which would empty the database after each test: here all share one world."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture(scope="module")
def world(
    django_db_setup: None,  # noqa: ARG001 - opens the database
    django_db_blocker: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """One world for all: what one death leaves behind must not be in the way of the next."""
    with django_db_blocker.unblock():
        yield worlds.with_weights(tmp_path_factory.mktemp("crash points") / "release")
        for half in Path(site_settings.STORAGE_DIR).glob(
            f"{storage.INCOMING}*"
        ):  # of the dead; others count what they leave
            half.unlink()
        if LedgerTransaction.objects.exists():
            ledger_guard.remove("default")
        call_command("flush", verbosity=0, interactive=False)
        connections.close_all()


@pytest.fixture(scope="module")
def worked_out(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run whose engine has done its work, in which a later engine finds that."""
    run = worlds.launch(world)
    dies_at(Point.OUTPUTS_COLLECTED, lambda: tasks.fine_tune(run.pk))
    recover()
    dies_at(Point.FINISH_COMMITTED, lambda: tasks.fine_tune(run.pk))
    return Path(shutil.copytree(directory(run), tmp_path_factory.mktemp("worked out") / "run", symlinks=True))


def directory(run: Run) -> Path:
    return workspaces.directory("run", run.pk, Verb.TRAIN).parent


@pytest.fixture
def run(world: World, worked_out: Path) -> Run:
    """A run in the queue; its engines only say that their work is done already."""
    queued = worlds.launch(world)
    shutil.copytree(worked_out, directory(queued))
    return queued


def recover() -> None:
    """What the reaper does, now and later, for whatever nobody works on."""
    now = timezone.now()
    reaping.reap(now=now)
    reaping.reap(now=now + LATER)


def finish_all() -> None:
    """The reaper, and a worker that answers each ring. A run for which nobody rings stays behind."""
    recover()
    rung = {(message["func"], message["args"][0]) for message in doorbell.all_taken()}
    for func, pk in rung:
        if func == tasks.fine_tune.__module__ + ".fine_tune":
            tasks.fine_tune(pk)


def assert_whole(*, promised: Run | None = None) -> None:
    assert not invariants.lost({str(promised.uid)} if promised else set())
    assert not invariants.doubled()
    assert not invariants.broken()


def test_every_point_has_a_place_here() -> None:
    here = [*AT_LAUNCH, *AT_WORK, *AT_WISH, *AT_STOP, *AT_RETURN, *AT_REAPING, *AT_PUBLISHING]
    named = [*here, *IN_PIECES, *AT_SENDING, *AT_UPLOAD, *IN_ENGINE]

    assert sorted(named) == sorted(Point)
    assert len(named) >= 25


@pytest.mark.parametrize("point", AT_LAUNCH)
def test_a_launch_is_either_made_or_not(world: World, worked_out: Path, point: Point) -> None:
    dies_at(point, lambda: worlds.launch(world))

    with contextlib.suppress(Conflict):  # the client asks once more: the same is on its way
        worlds.launch(world)
    launched = Run.objects.get(status__in=ACTIVE)
    shutil.copytree(worked_out, directory(launched))
    finish_all()
    assert_whole(promised=launched)


@pytest.mark.parametrize("point", AT_WORK)
def test_a_worker_that_dies_leaves_a_run_that_another_ends(run: Run, point: Point) -> None:
    dies_at(point, lambda: tasks.fine_tune(run.pk))

    finish_all()
    assert_whole(promised=run)
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED


@pytest.mark.parametrize("point", AT_WISH)
def test_a_wish_to_cancel_is_kept_or_was_never_made(world: World, run: Run, point: Point) -> None:
    def ask() -> None:
        assert runs.claim(run.pk) is not None
        steering.request_cancel(user=world["buyer"], run=run, now=timezone.now())

    dies_at(point, ask)

    finish_all()
    assert_whole(promised=run)
    run.refresh_from_db()
    assert run.status == (RunStatus.CANCELED if point is Point.CANCEL_COMMITTED else RunStatus.SUCCEEDED)


@pytest.mark.parametrize("point", AT_STOP)
def test_a_worker_that_dies_while_it_stops_an_engine(
    world: World, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    queued = worlds.launch(world, hyper={"seed": 9})  # nobody has done its work: there is an engine to stop
    wish = "pause_requested_at" if point is Point.PAUSE_SENT else "cancel_requested_at"
    Run.objects.filter(pk=queued.pk).update(**{wish: timezone.now()})
    dies_at(point, lambda: tasks.fine_tune(queued.pk))

    recover()
    queued.refresh_from_db()
    assert queued.status == (RunStatus.PAUSED if point is Point.PAUSE_SENT else RunStatus.CANCELED)
    steering.request_cancel(user=world["buyer"], run=queued, now=timezone.now()) if queued.is_paused else None
    assert_whole(promised=queued)


@pytest.mark.parametrize("point", AT_RETURN)
def test_a_worker_that_dies_while_it_gives_a_run_back(run: Run, point: Point) -> None:
    def give_back() -> None:
        claimed = runs.claim(run.pk)
        assert claimed is not None
        if point is Point.FAIL_COMMITTING:
            runs.fail(run=run, attempt=claimed[1], code="app:disk", message="The disk.")
        else:
            runs.hand_back(run=run, attempt=claimed[1], outcome=DRAINED)

    dies_at(point, give_back)

    finish_all()
    assert_whole(promised=run)
    run.refresh_from_db()
    assert (run.status, run.failures, run.interruptions) == (RunStatus.SUCCEEDED, 0, 1)


@pytest.mark.parametrize("point", AT_REAPING)
def test_a_reaper_that_dies_is_followed_by_one_that_does_it_again(run: Run, point: Point) -> None:
    dies_at(Point.CLAIM_COMMITTED, lambda: tasks.fine_tune(run.pk))
    dies_at(point, lambda: reaping.reap(now=timezone.now()))

    finish_all()
    assert_whole(promised=run)
    run.refresh_from_db()
    assert (run.status, run.interruptions) == (RunStatus.SUCCEEDED, 1)


@pytest.mark.parametrize("point", AT_PUBLISHING)
def test_a_release_is_either_published_or_not(world: World, point: Point) -> None:
    release = scenarios.ready_release(world["vendor"], name=point.value.replace(".", "-"))
    dies_at(point, lambda: tasks_publish(world, release))

    release.refresh_from_db()
    assert release.status == ("published" if point is Point.PUBLISH_COMMITTED else "ready")
    assert (release.listing.latest_release == release) is (point is Point.PUBLISH_COMMITTED)
    if point is Point.PUBLISH_COMMITTING:
        assert tasks_publish(world, release).status == "published"


def tasks_publish(world: World, release: Release) -> Release:
    return scenarios.publishing.publish(user=world["vendor"], release=release, now=timezone.now())


@pytest.mark.parametrize("point", IN_PIECES)
def test_an_upload_goes_on_from_what_was_said_to_be_there(world: World, point: Point) -> None:
    content = point.value.encode() * 1000
    upload = uploads.begin(user=world["buyer"], length=len(content), filename="", sha256="", now=timezone.now())

    def send() -> None:
        upload.refresh_from_db()
        stream = io.BytesIO(content[upload.offset :])
        uploads.append(upload=upload, stream=stream, offset=upload.offset, digest=None, now=timezone.now())

    dies_at(point, send)
    send()

    blob, _ = uploads.content(user=world["buyer"], uid=upload.uid, now=timezone.now())
    assert b"".join(storage.chunks(blob.sha256)) == content
    assert not list(Path(site_settings.STORAGE_DIR).glob(f"*{upload.uid.hex}"))


@pytest.mark.parametrize("point", AT_SENDING)
def test_a_webhook_is_sent_again_under_its_id(world: World, point: Point, settings: Any) -> None:
    settings.WEBHOOK_ALLOW = allowed(["127.0.0.1"])
    owner, now = people.namespace_of(world["buyer"]), timezone.now()
    with receiver() as hooks:
        endpoint, secret = endpoints.create(user=world["buyer"], namespace=owner, url=hooks.url, now=now)
        outbox.record(EventType.RUN_FAILED, recipients=[owner], data={}, now=now)
        dies_at(point, lambda: delivery.send_one(now=now))
        assert not endpoint.messages.get().attempts.exists()

        doorbell.all_taken()
        reaping.reap(now=now + LATER)
        assert not delivery.send_one(now=now + LATER)  # whoever has it may only be slow
        reaping.reap(now=now + 2 * LATER)
        assert [message["func"] for message in doorbell.all_taken()] == [Job.SEND_WEBHOOKS.path]
        assert delivery.send_one(now=now + 2 * LATER)

        sent = [(call.headers["webhook-id"], call.body) for call in hooks.calls]
        assert len(sent) == (1 if point is Point.WEBHOOK_CLAIMED else 2)
        assert len(set(sent)) == 1
        assert all(verifies(call, secret) for call in hooks.calls)
        assert endpoint.messages.get().status == MessageStatus.DELIVERED
        endpoints.remove(endpoint=endpoint, user=world["buyer"])


@pytest.mark.parametrize("point", AT_UPLOAD)
def test_an_upload_is_checked_once_it_was_taken(world: World, point: Point) -> None:
    def upload() -> Dataset:
        return worlds.received(world["buyer"], worlds.shapes(), name=point.value)

    if point is Point.UPLOAD_STORED:
        dies_at(point, upload)
        assert not Dataset.objects.filter(name=point.value).exists()
        dataset = upload()
    else:
        dataset = upload()
        dies_at(point, lambda: tasks.inspect_dataset(dataset.pk))
    recover()
    tasks.inspect_dataset(dataset.pk)

    dataset.refresh_from_db()
    assert (dataset.status, dataset.versions.count()) == ("valid", 1)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Lays out the same small training under a name of its own."""
    base = tmp_path_factory.mktemp("training")
    write_release(base / "inputs/release")
    write_pack(base / "inputs/train.pack", {Split.TRAIN: 16, Split.VALIDATION: 4})
    spec = TrainSpec(
        weights=weights_at("inputs/release"),
        strategy=Strategy.FULL,
        labels=LABELS,
        hyper=Hyper(epochs=4, batch_size=8, patience=4),
        device="cpu",
        threads=1,
    )

    def laid_out(name: str) -> Path:
        run_dir = base / name
        run_dir.mkdir()
        (run_dir / "inputs").symlink_to(base / "inputs")
        specs.write(spec, run_dir)
        return run_dir

    return laid_out


@pytest.fixture(scope="module")
def cut(training: Callable[[str], Path]) -> Path:
    """One training, which dies at each place in turn."""
    return training("cut")


@pytest.fixture(scope="module")
def whole(training: Callable[[str], Path]) -> str:
    """The digest of the weights of a training that nobody has cut off."""
    return weights(training("whole"))


def weights(run_dir: Path) -> str:
    assert warm_engine.run(Verb.TRAIN, run_dir).code == 0
    result = read_result(run_dir)
    assert result is not None
    return str(result["outputs"][WEIGHTS]["sha256"])


@pytest.mark.parametrize("point", IN_ENGINE)
def test_an_engine_that_dies_leaves_a_result_that_counts_or_none(cut: Path, whole: str, point: Point) -> None:
    # At the second checkpoint: so each of these deaths leaves the training one step further.
    place = f"{point}@2" if point.startswith("checkpoint.") else point.value
    ended = warm_engine.run(Verb.TRAIN, cut, ENGINE_CHECKPOINT_SECONDS="0", **{crash_points.VARIABLE: place})

    assert ended.code == -signal.SIGKILL
    assert results.finished(cut, Verb.TRAIN) is (point in {Point.RESULT_RENAMED, Point.RESULT_SAVED})
    if results.finished(cut, Verb.TRAIN):
        result = read_result(cut)
        assert result is not None
        assert result["outputs"][WEIGHTS]["sha256"] == whole
        (cut / specs.RESULT_FILE).unlink()  # for the next to have something to do


def test_a_training_that_died_everywhere_ends_with_the_weights_of_one_that_did_not(cut: Path, whole: str) -> None:
    assert weights(cut) == whole


@pytest.mark.parametrize(("debug", "armed"), [("0", ""), ("1", "blob.stored")])
def test_the_variable_alone_arms_nothing(tmp_path: Path, debug: str, armed: str) -> None:
    ask = "from marketplace import settings; from finetuning.engine import crash_points as c; print(c.armed())"
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "DEBUG": debug, crash_points.VARIABLE: "blob.stored"}

    answer = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == armed

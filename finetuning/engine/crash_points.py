"""Places at which a process can be made to kill itself, to see that whoever comes next takes up what it left behind.

CRASH_AT=NAME, or NAME@N for the N-th time that the process is there, does nothing of itself: only the engine, and the
site where DEBUG is on, which a production site refuses, call `arm` with it. What it does then is what any operator's
`kill -9` does at an unlucky moment, and no caller of the site can set a variable of its environment.

The standard library only: the site's own code names places as well.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum

VARIABLE = "CRASH_AT"


class Point(StrEnum):
    """Each stands on one side of something that outlives the process. `..._COMMITTING` is the last line of a
    transaction: all is written, nothing holds yet."""

    # The site, and its queue.
    UPLOAD_STORED = "upload.stored"
    LAUNCH_COMMITTING = "launch.committing"
    MESSAGE_SENDING = "message.sending"  # what it speaks of is committed
    MESSAGE_SENT = "message.sent"
    CANCEL_COMMITTING = "cancel.committing"
    CANCEL_COMMITTED = "cancel.committed"
    PUBLISH_COMMITTING = "publish.committing"
    PUBLISH_COMMITTED = "publish.committed"
    # Uploads in pieces.
    PIECE_SYNCED = "piece.synced"
    PIECE_SAVED = "piece.saved"
    UPLOAD_KEPT = "upload.kept"  # a blob, and its row does not say so yet
    # Webhooks.
    WEBHOOK_CLAIMED = "webhook.claimed"  # and not sent yet
    WEBHOOK_ANSWERED = "webhook.answered"  # the receiver has it, and nobody here knows
    WEBHOOK_COMMITTING = "webhook.committing"
    # Blobs.
    BLOB_WRITTEN = "blob.written"
    BLOB_SYNCED = "blob.synced"
    BLOB_RENAMED = "blob.renamed"
    BLOB_STORED = "blob.stored"
    # The worker.
    CLAIM_COMMITTING = "claim.committing"
    CLAIM_COMMITTED = "claim.committed"
    INPUTS_LINKED = "inputs.linked"
    ENGINE_STARTING = "engine.starting"
    ENGINE_STARTED = "engine.started"
    ENGINE_ENDED = "engine.ended"
    CANCEL_HEARD = "cancel.heard"
    TERMINATE_SENT = "terminate.sent"
    PAUSE_SENT = "pause.sent"
    OUTPUTS_COLLECTED = "outputs.collected"
    FINISH_COMMITTING = "finish.committing"
    FINISH_COMMITTED = "finish.committed"
    FAIL_COMMITTING = "fail.committing"
    HAND_BACK_COMMITTING = "hand_back.committing"
    CANCELED_COMMITTING = "canceled.committing"
    INSPECTION_COMMITTING = "inspection.committing"
    MESSAGE_HANDLED = "message.handled"  # and not acknowledged yet
    # The reaper.
    EXPIRE_COMMITTING = "expire.committing"
    EXPIRE_COMMITTED = "expire.committed"
    # The engine.
    LOCK_TAKEN = "lock.taken"
    CHECKPOINT_WRITTEN = "checkpoint.written"
    CHECKPOINT_SYNCED = "checkpoint.synced"
    CHECKPOINT_RENAMED = "checkpoint.renamed"
    CHECKPOINT_SAVED = "checkpoint.saved"  # and the older ones not dropped yet
    OUTPUTS_SYNCED = "outputs.synced"
    RESULT_WRITTEN = "result.written"
    RESULT_SYNCED = "result.synced"
    RESULT_RENAMED = "result.renamed"
    RESULT_SAVED = "result.saved"  # and not told yet


class _Wish:
    """Where this process is to die, and how often it passes there before."""

    def __init__(self) -> None:
        self.text, self.point, self.left = "", "", 0


_wish = _Wish()


def arm(text: str) -> None:
    """Raises ValueError where there is no such place; an empty text disarms."""
    name, _, count = text.partition("@")
    _wish.text, _wish.point = text, Point(name).value if name else ""
    _wish.left = int(count or 1)


def armed() -> str:
    """Returns what was armed, for a child's environment."""
    return _wish.text


def reach(point: Point) -> None:
    if point == _wish.point:
        _wish.left -= 1
        if _wish.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

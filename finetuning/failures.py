"""Whose fault a failure is, whether another try can end otherwise, and what to do next. The codes are the engine's
(`user:...` and `app:...`, docs/engine.md) and the runner's."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNKNOWN = "app:internal"
_CODE = re.compile(r"(?:user|app):[a-z0-9_]{1,50}")
_SAME_AGAIN = "It will fail again as it is: {}"


@dataclass(frozen=True, slots=True)
class _Kind:
    """`tries` in all, the first one included."""

    tries: int
    advice: str


_OF_STORAGE = 15  # a bucket that is away, or a disk that is full, is mended by somebody: for that there is an hour
# Of a fault of the server's that is not named here.
_OF_THE_SERVER = _Kind(3, "This was not your fault and costs you nothing. Launch it again later, or tell the operator.")
_OF_THE_INPUT = _Kind(1, "Change what the message names, and launch again.")
_KINDS = {
    # Nothing random decides these: the next try would end the same.
    "app:out_of_memory": _Kind(1, _SAME_AGAIN.format("choose a smaller batch or image size, or a smaller model.")),
    "app:deadline": _Kind(
        1, _SAME_AGAIN.format("choose fewer epochs, a smaller image size or the strategy head only.")
    ),
    "app:device_missing": _Kind(1, "The operator must repair the device or choose another. It costs you nothing."),
    "app:keras_missing": _Kind(1, "The operator must install the extra `keras`. Choose a model of another library."),
    "app:labels_differ": _Kind(1, "The model and the dataset do not belong together: launch a new run."),
    "app:not_confined": _Kind(1, "The operator must set up the sandbox, or allow less (docs/operations.md)."),
    "app:no_progress": _Kind(1, "Tell the operator that the server keeps stopping, then launch it again."),
    # A fault of our own: once more, for what was an accident of the machine.
    UNKNOWN: _Kind(2, "This is a fault of ours and costs you nothing. Tell the operator the run's number."),
    "app:stalled": _Kind(2, "The engine stood still. It costs you nothing: launch it again, or tell the operator."),
    "app:disk_full": _Kind(
        _OF_STORAGE, "The operator must free disk space. It costs you nothing: launch it again then."
    ),
    "app:disk": _Kind(_OF_STORAGE, "The server could not use its storage. It costs you nothing: tell the operator."),
    "user:not_allowed_any_more": _Kind(1, "Renew the license or choose other data, then launch a new run."),
    "user:compute_quota_exceeded": _Kind(1, "Launch it again next month, or ask the operator for more hours."),
    "user:budget_reached": _Kind(1, "Nothing is charged. Launch it again with a larger budget or fewer epochs."),
    "user:checksum_mismatch": _Kind(1, "The file arrived damaged: upload it again."),
}


def is_of_the_server(code: str) -> bool:
    return not code.startswith("user:")


def read_code(text: str) -> str:
    """Returns the code that an engine reported, or that of a fault of ours where it is none."""
    return text if _CODE.fullmatch(text) else UNKNOWN


def may_try_again(code: str, *, tries: int) -> bool:
    """Whether after so many tries the next one may end otherwise; what the input causes never does."""
    return tries < _kind(code).tries


def advice(code: str) -> str:
    """Returns one sentence or two on what to do next."""
    return _kind(code).advice


def _kind(code: str) -> _Kind:
    return _KINDS.get(code, _OF_THE_SERVER if is_of_the_server(code) else _OF_THE_INPUT)

"""How a verb ends when it cannot finish: an exception that `__main__` turns into the `failed` event."""

from __future__ import annotations

from collections.abc import Iterable

EXIT_USER = 65  # EX_DATAERR in sysexits.h
EXIT_APP = 70  # EX_SOFTWARE
EXIT_BUSY = 75  # EX_TEMPFAIL
EXIT_PAUSED = 85  # by SIGUSR1: what could be kept is kept
EXIT_STOPPED = 143  # 128 + SIGTERM
MAX_ITEMS = 20


class EngineFailure(Exception):
    """A failure with a stable code and one sentence for a person. `items` names at most 20 places."""

    origin = "app"
    exit_code = EXIT_APP

    def __init__(self, code: str, message: str, items: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.items = tuple(item for _, item in zip(range(MAX_ITEMS), items, strict=False))

    @property
    def qualified_code(self) -> str:
        """The code as events carry it: `user:...` or `app:...`."""
        return f"{self.origin}:{self.code}"


class UserFault(EngineFailure):
    """The input is at fault: the same input will fail again."""

    origin = "user"
    exit_code = EXIT_USER


class AppFault(EngineFailure):
    """The engine or its machine is at fault: another try may succeed."""

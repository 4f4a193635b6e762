"""Child processes that die with their parent, and whole groups that end together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

_PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 8.0
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent_pid: int) -> None:
    """Makes the kernel kill this process when its parent dies. A parent that is dead already is noticed."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(70)


def spawn(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, descriptors: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Starts the command in its own session, tied to this process; it inherits the `descriptors`."""
    parent = os.getpid()
    return subprocess.Popen(
        list(command),
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=tuple(descriptors),
        preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - the callers have one thread
    )


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Ends whatever is left of the child's group; a child that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def terminate(child: subprocess.Popen[bytes], *, grace_seconds: float = GRACE_SECONDS) -> None:
    """SIGTERM to the child, time to end, then SIGKILL to its group."""
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_seconds)
    kill_group(child)

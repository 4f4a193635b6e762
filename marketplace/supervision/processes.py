"""Child processes that die with their parent, and whole groups that end together."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 8.0
_START_FIELD = 19  # of /proc/PID/stat after the name: when the process began, in clock ticks since the boot
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


def own_name() -> str:
    """Returns what tells this process from every other one, on this machine and elsewhere: its number, when it
    began, and the boot and process namespace in which the two mean anything. Empty where the kernel does not say."""
    return _name(os.getpid())


def is_gone(name: str) -> bool:
    """Whether the process of that `own_name` has certainly ended. False where this machine cannot know: the name
    is of another one, of another container, or no name at all."""
    number, _, rest = name.partition(".")
    _, _, place = rest.partition("@")
    if not number.isdecimal() or not place or place != _place():
        return False
    return _name(int(number)) != name


def _name(pid: int) -> str:
    place = _place()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    # The program's name stands in brackets and may hold any character: what counts comes after the last one.
    state, *fields = stat.rpartition(")")[2].split()
    if state in {"Z", "X"} or not place:
        return ""  # dead, and only not buried
    return f"{pid}.{fields[_START_FIELD - 1]}@{place}"


@functools.cache
def _place() -> str:
    """Returns the boot of this machine, and the namespace in which process numbers count."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return f"{boot}:{namespace.strip('pid:[]')}"

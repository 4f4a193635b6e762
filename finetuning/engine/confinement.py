"""Confines this process before it meets bytes of others: no network, its own directory alone to write into, the
inputs to read, limits of memory, time and files, no rights to get out again. Linux; standard library only.

The runner asks for it by ENGINE_CONFINEMENT, a JSON object (`Wish`); what the kernel refuses is told in `missing`.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from finetuning.engine.spec import CONFINEMENT_VARIABLE

NETWORK, INPUTS, FILES, RIGHTS = "network", "inputs", "files", "rights"
PARTS = (NETWORK, INPUTS, FILES, RIGHTS)
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_PR_SET_NO_NEW_PRIVS = 38
_KEPT_FLAGS = 2 | 4 | 8 | 1024 | 2048  # of a mount: nosuid, nodev, noexec, noatime, nodiratime
_CAPABILITY_VERSION = 0x20080522  # of two 32-bit sets
# landlock(7); the numbers are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _READ, _READ_DIR = 1, 4, 8
_RIGHTS_OF_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights on files each version knows
_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # all that a rule on a file may name
_SCOPE_ABI = 6
_SCOPES = 3  # abstract Unix sockets, and signals to whoever is outside
_READABLE = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/proc", "/sys/devices", "/sys/fs/cgroup", "/etc/ld.so.cache")
_READABLE_WITH_NETWORK = (
    "/etc/ssl",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/run/systemd",
)
_WRITABLE = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm")  # noqa: S108 - the kernel's own
_DEVICES = ("nvidia*", "dri", "kfd")  # of accelerators


@dataclass(frozen=True, slots=True)
class Wish:
    """What the runner asks for. 0 is no limit. `network` is for the verb that fetches weights, `readable` a folder
    beside the run directory, `required` says that the verb must not go on where something is missing."""

    network: bool = False
    required: bool = False
    readable: str = ""
    memory_bytes: int = 0
    file_bytes: int = 0
    cpu_seconds: int = 0


def asked_for() -> Wish | None:
    text = os.environ.get(CONFINEMENT_VARIABLE, "")
    return Wish(**json.loads(text)) if text else None


def confine(wish: Wish, run_dir: Path) -> list[str]:
    """Confines this process and its children for good; returns which of PARTS the kernel did not grant. While the
    process has one thread, and before `die_with_parent`, whose wish a change of rights undoes."""
    _limit(wish)
    if not sys.platform.startswith("linux"):
        return list(PARTS)
    libc, missing = ctypes.CDLL(None, use_errno=True), []
    has_mounts = _unshare(libc, network=wish.network)
    if not has_mounts and not wish.network:
        missing.append(NETWORK)
    if not (has_mounts and _protect(libc, run_dir / "inputs")):
        missing.append(INPUTS)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not _restrict_files(libc, run_dir, wish):
        missing.append(FILES)
    if not _drop_rights(libc):
        missing.append(RIGHTS)
    return missing


def _limit(wish: Wish) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: wish.memory_bytes or None,
        resource.RLIMIT_FSIZE: wish.file_bytes or None,
        resource.RLIMIT_CPU: wish.cpu_seconds or None,
    }
    for kind, limit in limits.items():
        if limit is None:
            continue
        _, most = resource.getrlimit(kind)
        allowed = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (allowed, allowed))


def _unshare(libc: ctypes.CDLL, *, network: bool) -> bool:
    """Gives the process mounts of its own and, unless it needs one, no network: as the superuser, or in a name space
    of users of its own, in which it keeps its number."""
    spaces = _CLONE_NEWNS | (0 if network else _CLONE_NEWNET)
    if libc.unshare(spaces) == 0:
        return True
    user, group = os.getuid(), os.getgid()
    if libc.unshare(spaces | _CLONE_NEWUSER) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        return False
    return True


def _protect(libc: ctypes.CDLL, inputs: Path) -> bool:
    """Mounts the inputs read-only over themselves. They are links to what is stored, which nobody may change."""
    if not inputs.is_dir():
        return True
    where = os.fsencode(inputs)
    flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY | (os.statvfs(inputs).f_flag & _KEPT_FLAGS)
    return bool(
        libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
        and libc.mount(where, where, None, _MS_BIND | _MS_REC, None) == 0
        and libc.mount(b"none", where, None, flags, None) == 0
    )


def _restrict_files(libc: ctypes.CDLL, run_dir: Path, wish: Wish) -> bool:
    """Leaves what the program is made of to read, and the run directory to write."""
    abi = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if abi < 1:
        return False
    every = (1 << _RIGHTS_OF_ABI[min(abi, max(_RIGHTS_OF_ABI))]) - 1
    attributes = struct.pack("=QQQ", every, 0, _SCOPES) if abi >= _SCOPE_ABI else struct.pack("=Q", every)
    rules = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return False
    try:
        look = _EXECUTE | _READ | _READ_DIR
        for path in _readable(wish):
            _allow(libc, rules, path, look & every)
        for path in (run_dir, *map(Path, _WRITABLE), *_accelerators()):
            _allow(libc, rules, path, every & ~_EXECUTE)
        return bool(libc.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _readable(wish: Wish) -> Iterable[Path]:
    code = Path(__file__).resolve().parents[1]  # the package that holds the engine
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent)}
    system = (*_READABLE, *(_READABLE_WITH_NETWORK if wish.network else ()), *filter(None, [wish.readable]))
    return [code, *map(Path, prefixes), *map(Path, system)]


def _accelerators() -> list[Path]:
    return [path for pattern in _DEVICES for path in Path("/dev").glob(pattern)]


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # this machine does not have it
        return
    try:
        rule = struct.pack("=Qi", rights if path.is_dir() else rights & _OF_FILES, descriptor)
        libc.syscall(_ADD_RULE, rules, 1, rule, 0)
    finally:
        os.close(descriptor)


def _drop_rights(libc: ctypes.CDLL) -> bool:
    """Gives up every capability: without them the superuser is a user like others, and mounts stay as they are."""
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION, 0), struct.pack("=6I", 0, 0, 0, 0, 0, 0)
    return bool(libc.capset(header, none) == 0)

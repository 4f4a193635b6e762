"""Runs a command and writes what it took to a file: `python -S benchmarks/timed.py FILE COMMAND...`.

A process of its own, and a small one: the kernel counts the memory of whoever starts a process to that process's peak.
Standard library only, and as little of it as possible.
"""

from __future__ import annotations

import json
import os
import sys
import time

_KIBIBYTES_A_MEBIBYTE = 1024


def main(file: str, command: list[str]) -> int:
    started = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    taken = {
        "seconds": time.perf_counter() - started,
        "peak_mb": usage.ru_maxrss / _KIBIBYTES_A_MEBIBYTE,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }
    with open(file, "w", encoding="utf-8") as output:
        json.dump(taken, output)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

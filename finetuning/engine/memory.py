"""How this process asks the kernel for memory. Before torch is imported; standard library only.

A network's activations are tens of megabytes each. glibc by default maps and unmaps every one of them, and
the kernel clears each page again, which takes a large part of the time of a forward pass: see
`python -m benchmarks features --allocator system`.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> None:
    """Makes freed blocks stay with this process, in huge pages where the kernel offers them by request.

    For verbs that end: the peak is the same, but memory goes back to the machine only at the end."""
    if not sys.platform.startswith("linux"):
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch's CPU allocator at its first use
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # a C library without it, such as musl
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _NEVER_TRIM)

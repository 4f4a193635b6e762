"""The machine under a run: device, threads, seeds, determinism and memory."""

from __future__ import annotations

import os
import platform
import random
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from finetuning.engine import ranks
from finetuning.engine.failures import AppFault, UserFault
from finetuning.engine.results import versions
from finetuning.engine.stopping import check_stop, pause_requested, stop_requested

_KIBIBYTE = 1024
_PROCESSORS = Path("/proc/cpuinfo")

__all__ = [
    "Machine",
    "be_deterministic",
    "check_stop",
    "choose_device",
    "pause_requested",
    "peak_memory_bytes",
    "prepare",
    "seed_everything",
    "stop_requested",
    "versions",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a run computes on. `threads` bounds torch's intra-op pool; CPU reductions depend on it."""

    device: torch.device
    threads: int

    @property
    def hardware(self) -> str:
        """Names what times depend on, for people and to compare: runs of one name took their times alike."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{_processor()}, {self.threads} of {os.cpu_count()} threads"


def prepare(*, device: str = "auto", threads: int = 0, seed: int = 0) -> Machine:
    """Chooses the device, sets the threads (0: torch's own choice), and makes the run repeatable."""
    if threads > 0:
        torch.set_num_threads(threads)
    seed_everything(seed)
    be_deterministic()
    return Machine(device=choose_device(device), threads=torch.get_num_threads())


def _processor() -> str:
    """Returns the processor's own name on Linux, else its architecture."""
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def choose_device(wish: str = "auto") -> torch.device:
    """Returns the device for `wish`; "auto" is CUDA, then MPS, then the CPU. Of several processes each has the
    CUDA device of its own number, and MPS, which cannot reach another process, is not chosen. Raises UserFault
    `device_unknown`, AppFault `device_missing`."""
    rank = ranks.own()
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available() and rank.world == 1,
        "cpu": True,
    }
    if wish == "auto":
        wish = next(name for name, present in available.items() if present)
    kind = wish.partition(":")[0]
    if kind not in available:
        raise UserFault("device_unknown", "The device must be auto, cuda, mps or cpu.")
    if not available[kind]:
        raise AppFault("device_missing", f"This machine has no {kind} device.")
    if wish == "cuda" and rank.world > 1:
        return torch.device("cuda", rank.local)
    return torch.device(wish)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that we call draw from the global state
    torch.manual_seed(seed)


def be_deterministic() -> None:
    """Asks torch for the same bits on the same machine; an operation without such a kernel warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")  # `use_deterministic_algorithms` imports the compiler, a second
    # Filling every new tensor with NaN shows reads of uninitialized memory, and costs a fifth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property at run time
    torch.backends.cudnn.benchmark = False


def peak_memory_bytes(device: torch.device) -> int:
    """Returns the most memory held so far: of the device on CUDA, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIBIBYTE  # Linux counts in KiB, macOS in bytes

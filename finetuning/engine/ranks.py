"""Which of several processes this one is, as torchrun says by the environment. Standard library only: it is
asked before torch is loaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finetuning.engine.spec import INPUTS_DIR, SPEC_FILE


@dataclass(frozen=True, slots=True)
class Rank:
    """`number` of `world` processes in all, `local` among those of this machine; each from 0."""

    number: int
    local: int
    world: int

    @property
    def is_first(self) -> bool:
        return self.number == 0


def own() -> Rank:
    """Returns this process's place; without torchrun it is the only one."""
    number, local, world = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1))
    )
    return Rank(number, local, world)


@contextmanager
def private_copy(run_dir: Path, rank: Rank) -> Iterator[Path]:
    """Yields a run directory of this rank's own with the same spec and inputs, dropped at the end: whatever a
    verb writes, only the first rank's counts. It lies beside the original's files, where there is room for caches."""
    private = run_dir / f".rank{rank.number}"
    shutil.rmtree(private, ignore_errors=True)  # a killed run's
    private.mkdir()
    for name in (SPEC_FILE, INPUTS_DIR):
        (private / name).symlink_to(run_dir / name)
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)

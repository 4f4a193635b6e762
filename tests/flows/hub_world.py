"""The site as the user of a Hub client sees it: an endpoint, a token, and programs of their own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from live_stack import Stack

PROGRAM = Path(__file__).with_name("hub_program.py")
PROGRAM_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Hub:
    stack: Stack
    token: str

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.stack.url, token=self.token)

    @property
    def anonymous(self) -> HfApi:
        return HfApi(endpoint=self.stack.url, token=False)

    def download(self, repository: str, path: str, cache: Path, **given: object) -> Path:
        given = {"token": self.token, **given}
        return Path(hf_hub_download(repository, path, endpoint=self.stack.url, cache_dir=cache, **given))

    def environment(self, home: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        wished = {"HF_ENDPOINT": self.stack.url, "HF_TOKEN": self.token, "HF_HOME": str(home), "NO_COLOR": "1"}
        return {**kept, **wished, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def run(self, home: Path, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment(home), **changes}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
        )

"""Runs orders one after the other as a worker of the product does: one process imports what engines need, each verb is
forked from it. Where that cannot be, as beside an accelerator, each is executed.

`python -m benchmarks.worker VERB RUN_DIR [VERB RUN_DIR]...`; the first one that fails ends it, with its exit code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from finetuning.engine.spec import Verb
from finetuning.engine_processes import start

_WARM_SECONDS = 300.0  # longer than between two orders
_LONGEST_SECONDS = 24 * 3600.0


def main(arguments: list[str]) -> int:
    for verb, run_dir in zip(arguments[::2], map(Path, arguments[1::2]), strict=True):
        with Path(run_dir, "log").open("wb") as log:
            engine = start(Verb(verb), run_dir, common=os.environ, own={}, log=log, warm_seconds=_WARM_SECONDS)
            code = engine.wait(_LONGEST_SECONDS)
            engine.end()
        if code:
            sys.stderr.write(Path(run_dir, "log").read_text(errors="replace"))
            return abs(code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

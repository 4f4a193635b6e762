"""Becomes the predictor: the engine's `serve`, without the site's environment."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from finetuning.engine import spec as engine
from marketplace.predictor import socket_path


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = []  # `up` has made them: half of the time that a restart takes

    def handle(self, **_options: Any) -> None:
        run_dir = Path(settings.PREDICTOR_DIR)
        shutil.rmtree(run_dir, ignore_errors=True)
        run_dir.mkdir(parents=True)
        Path(settings.SERVING_DIR).mkdir(parents=True, exist_ok=True)
        engine.write(engine.ServeSpec(socket=str(socket_path()), releases=str(settings.SERVING_DIR)), run_dir)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(run_dir),
            "PYTHONPATH": str(settings.BASE_DIR),
            "HF_HUB_OFFLINE": "1",
            engine.CONFINEMENT_VARIABLE: json.dumps(
                {"readable": str(settings.SERVING_DIR), "required": settings.SANDBOX == "required"}
            ),
        }
        command = [sys.executable, "-P", "-m", "finetuning.engine", engine.Verb.SERVE.value, str(run_dir)]
        os.execve(sys.executable, command, environment)  # noqa: S606 - our own interpreter and program

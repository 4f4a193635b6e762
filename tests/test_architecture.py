"""What import-linter cannot say: what a running process has loaded, and who writes what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from marketplace.queue import Job

ROOT = Path(__file__).resolve().parent.parent
APPS = ("marketplace", "models_catalog", "finetuning")
HEAVY = ("torch", "torchvision", "timm", "transformers", "numpy", "safetensors", "PIL", "sklearn")
# Writes belong to services; models hold the compare-and-swap of their own status.
READERS = ("web", "api", "selectors.py", "policies.py", "pages.py", "templatetags")
WRITES = {"create", "bulk_create", "get_or_create", "update_or_create", "bulk_update", "save"}


def loaded_after(code: str) -> set[str]:
    """Returns the top-level modules that a fresh interpreter holds after running the code."""
    tail = "import sys; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", f"{code}\n{tail}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_neither_the_web_server_nor_a_slot_loads_torch() -> None:
    site = (
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "import marketplace.wsgi, marketplace.urls, finetuning.tasks, finetuning.services.leases\n"
        "from django.urls import get_resolver; get_resolver().url_patterns\n"
        "import django_q.cluster"
    )

    assert not loaded_after(site) & set(HEAVY)


def test_the_engine_loads_no_django() -> None:
    loaded = loaded_after("import finetuning.engine.train, finetuning.engine.evaluate, finetuning.engine.inspect")

    assert "django" not in loaded
    assert "torch" in loaded


@pytest.mark.parametrize("job", Job)
def test_every_job_names_a_task_that_exists(job: Job) -> None:
    module, _, name = job.path.rpartition(".")

    assert callable(getattr(import_module(module), name))


def modules(*parts: str) -> Iterator[Path]:
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            if any(part in path.parts or path.name == part for part in parts) and "engine" not in path.parts:
                yield path


def test_only_services_and_models_write_rows() -> None:
    writers = [
        f"{path.relative_to(ROOT)}:{call.lineno} {ast.unparse(call.func)}"
        for path in modules(*READERS)
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in WRITES
        and ("objects" in ast.unparse(call.func) or call.func.attr == "save")
    ]

    assert not writers


def test_only_models_write_a_status_directly() -> None:
    """`transition` is the one writer; services name the state that they want, not the column."""
    assigned = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules("services", "web", "api", "tasks.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Attribute) and target.attr == "status" for target in node.targets)
        # A copy in memory after a transition that succeeded is no write.
        and "RunStatus.RUNNING" not in ast.unparse(node)
    ]

    assert not assigned

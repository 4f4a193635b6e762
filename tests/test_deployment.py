"""The files for containers name commands, variables and settings that the product has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import load_command_class

ROOT = Path(__file__).resolve().parents[1]
GIVEN = {
    "SITE_HOST": "models.example.com",
    "SECRET_KEY": "not-the-one-of-any-site-0123456789-abcdefghijklmnopqrstuvwxyz",
    "POSTGRES_PASSWORD": "words",
}
OURS = ("site", "train")


def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"])


def filled(value: object) -> str:
    """What Compose makes of a value: variables of .env, else their defaults."""
    pattern = r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}"
    return re.sub(pattern, lambda found: GIVEN.get(found[1], found[2] or ""), str(value))


@pytest.mark.parametrize("name", OURS)
def test_a_container_runs_a_command_that_there_is(name: str) -> None:
    command, *arguments = services()[name]["command"]
    parser = load_command_class("marketplace", command).create_parser("manage.py", command)

    assert parser.parse_args(arguments)


def test_the_containers_together_are_the_whole_product() -> None:
    from marketplace.management.commands.up import PROCESSES  # noqa: PLC0415 - read late, as the command is

    split = [name for service in OURS for name in services()[service]["command"][2:]]

    assert sorted(split) == sorted(PROCESSES)


@pytest.mark.parametrize("name", OURS)
def test_its_variables_are_documented_and_make_a_production_site(name: str, tmp_path: Path) -> None:
    environment = {key: filled(value) for key, value in services()[name]["environment"].items()}
    documented = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )

    assert [key for key in environment if key not in documented] == []
    assert done.returncode == 0, done.stderr


def test_the_image_holds_the_versions_of_the_lock() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    version = re.search(r"FROM python:(\d+\.\d+)", lines)

    assert version is not None
    assert f"python{version[1]}" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes" in lines

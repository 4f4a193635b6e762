"""The docs name what the code has: every error code, every environment variable."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = ("marketplace", "models_catalog", "finetuning")
RAISERS = {
    "Stale",
    "not_in_this_state",
    "Invalid",
    "Conflict",
    "Denied",
    "TooLarge",
    "TooMany",
    "Broken",
    "Gone",
    "NoSuchUpload",
    "PieceDamaged",
    "UnknownVersion",
    "Unavailable",
    "StorageFull",
    "deny",
}
# Of the command line, where no client meets them.
OF_THE_FRAMEWORK = {
    "bad_range",
    "database_unavailable",
    "invalid",
    "not_found",
    "bad_token",
    "parse_error",
    "permission_denied",
    "throttled",
}
PRIVATE = {"demo_failed", "demo_missing"}


def codes_in_the_code() -> Iterator[str]:
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            if "engine" in path.parts or "migrations" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                    continue
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in RAISERS and isinstance(node.args[0].value, str):
                    yield node.args[0].value


def test_every_error_code_is_listed_and_none_that_is_gone() -> None:
    listed = set(re.findall(r"^\| `([a-z0-9_]+)` \|", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE))

    missing = set(codes_in_the_code()) - PRIVATE - listed
    stale = listed - set(codes_in_the_code()) - OF_THE_FRAMEWORK
    assert (missing, stale) == (set(), set())


def test_every_environment_variable_is_documented() -> None:
    settings = (ROOT / "marketplace/settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', settings))
    table = (ROOT / "docs/operations.md").read_text(encoding="utf-8")

    assert {name for name in read if not re.search(rf"\b{name}\b", table)} == {"Q_CLUSTER_NAME"}

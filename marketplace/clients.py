"""Which program asks, by its User-Agent. It says what a client calls itself: good for statistics, never for rights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

MAX_CHARACTERS = 500  # of a User-Agent that are looked at


class Client(StrEnum):
    BROWSER = "browser"
    HUGGINGFACE_HUB = "huggingface_hub"
    TRANSFORMERS = "transformers"
    TIMM = "timm"
    CURL = "curl"
    API = "api"


TITLES = {
    Client.BROWSER: "Browser",
    Client.HUGGINGFACE_HUB: "huggingface_hub",
    Client.TRANSFORMERS: "Transformers",
    Client.TIMM: "timm",
    Client.CURL: "curl or wget",
    Client.API: "Other programs",
}
LIBRARIES = (Client.HUGGINGFACE_HUB, Client.TRANSFORMERS, Client.TIMM)

# huggingface_hub puts the calling library first: "timm/1.0.28; hf_hub/1.25.0; python/3.11.2".
_PRODUCTS = (
    (re.compile(r"(^|[;\s])timm/"), Client.TIMM),
    (re.compile(r"(^|[;\s])transformers/"), Client.TRANSFORMERS),
    (re.compile(r"(^|[;\s])(hf_hub|huggingface_hub)/"), Client.HUGGINGFACE_HUB),
    (re.compile(r"^(curl|wget)/"), Client.CURL),
    (re.compile(r"^mozilla/"), Client.BROWSER),
)
# What build services put there themselves; transformers says `is_ci/true`.
_BUILD = re.compile(r"is_ci/true|github-actions|actions/runner|gitlab-runner|jenkins|buildkite|circleci|travis|\bci/")


@dataclass(frozen=True, slots=True)
class Asker:
    client: Client
    is_ci: bool


def asker(user_agent: str) -> Asker:
    """Returns what the User-Agent says; one that says nothing known is a program."""
    text = user_agent[:MAX_CHARACTERS].lower()
    client = next((client for pattern, client in _PRODUCTS if pattern.search(text)), Client.API)
    return Asker(client, is_ci=_BUILD.search(text) is not None)

"""What programs call themselves, as their own code writes it."""

from __future__ import annotations

import pytest

from marketplace.clients import Client, asker


@pytest.mark.parametrize(
    ("agent", "client", "is_ci"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", Client.BROWSER, False),
        ("unknown/None; hf_hub/1.25.0; python/3.11.2; torch/2.14.1", Client.HUGGINGFACE_HUB, False),
        ("hf/1.25.0; hf_hub/1.25.0; python/3.11.2", Client.HUGGINGFACE_HUB, False),
        ("transformers/5.1.0; hf_hub/1.25.0; python/3.11.2; session_id/ab", Client.TRANSFORMERS, False),
        ("transformers/5.1.0; hf_hub/1.25.0; python/3.11.2; is_ci/true", Client.TRANSFORMERS, True),
        ("timm/1.0.28; hf_hub/1.25.0; python/3.11.2", Client.TIMM, False),
        ("curl/8.14.1", Client.CURL, False),
        ("Wget/1.25.0", Client.CURL, False),
        ("python-requests/2.32.5", Client.API, False),
        ("python-requests/2.32.5 GitHub-Actions", Client.API, True),
        ("", Client.API, False),
        ("a" * 600 + " timm/1", Client.API, False),
    ],
)
def test_a_client_is_known_by_what_it_calls_itself(agent: str, client: Client, is_ci: bool) -> None:
    found = asker(agent)

    assert (found.client, found.is_ci) == (client, is_ci)

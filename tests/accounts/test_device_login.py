"""Login by a browser, by the real functions of huggingface_hub where it has them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx2
import huggingface_hub
import pytest
import scenarios
from django.core import signals
from django.db import close_old_connections
from django.test import Client
from django.utils import timezone
from huggingface_hub import constants
from huggingface_hub.errors import DeviceCodeError
from huggingface_hub.utils import _oauth_device as device
from huggingface_hub.utils._http import default_client_factory

from marketplace.accounts.device_api import CLIENT_ID, DEVICE_GRANT
from marketplace.accounts.models import ApiToken, DeviceLogin, User
from marketplace.accounts.services import device_logins
from marketplace.accounts.services.device_logins import Fetched, Refusal
from marketplace.errors import Conflict, Invalid, TooMany
from marketplace.wsgi import application

pytestmark = pytest.mark.django_db
SITE = "http://testserver"
PAGE = "/account/device/"


def _answered(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The site's application. A request that ends closes the database, and with it the test's transaction: not here, as
    Django's own client does it."""
    signals.request_started.disconnect(close_old_connections)
    signals.request_finished.disconnect(close_old_connections)
    try:
        response = application(environ, start_response)
        body = list(response)
        response.close()
    finally:
        signals.request_started.connect(close_old_connections)
        signals.request_finished.connect(close_old_connections)
    return body


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client's own HTTP, answered by this site's application in this process; its pauses are skipped."""
    transport = httpx2.WSGITransport(app=_answered)
    huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=transport))
    monkeypatch.setattr(constants, "ENDPOINT", SITE)
    monkeypatch.setattr(device.time, "sleep", lambda _seconds: None)
    yield
    huggingface_hub.set_client_factory(default_client_factory)
    huggingface_hub.close_session()


@pytest.fixture
def bo(client: Client) -> User:
    """Somebody who is signed in at the browser."""
    user = scenarios.person("bo")
    client.force_login(user)
    return user


def later() -> None:
    """As if the client had paused: its pauses are skipped here, so that the next poll would come too soon."""
    DeviceLogin.objects.update(polled_at=timezone.now() - timedelta(minutes=1))


def decide(client: Client, code: str, **given: Any) -> Any:
    return client.post(PAGE, {"code": code, "scopes": ["models:write"], "days": 30, **given})


def test_the_real_client_logs_in_once_somebody_has_let_it_in(hub: None, client: Client, bo: User) -> None:  # noqa: ARG001 - the client's HTTP
    info = device.request_device_code()
    shown = client.post(PAGE, {"code": info["user_code"].lower().replace("-", " ")}).content.decode()
    let_in = decide(client, info["user_code"], approve="1")
    answer = device.poll_device_token(info)

    assert info["verification_uri_complete"] == f"{SITE}{PAGE}?code={info['user_code']}"
    assert (info["interval"], info["expires_in"]) == (5, 900)
    assert "python-httpx2/" in shown  # what the client says of itself here
    assert let_in.status_code == 302
    assert answer["expires_in"] == 30 * 86_400
    assert huggingface_hub.HfApi(endpoint=SITE, token=answer["access_token"]).whoami()["name"] == "bo"
    token = ApiToken.objects.get()
    assert (token.user, token.scopes) == (bo, ["models:write"])
    later()
    with pytest.raises(DeviceCodeError, match="invalid_grant"):
        device.poll_device_token(info)


def test_the_real_client_waits_and_is_refused(hub: None, client: Client, bo: User) -> None:  # noqa: ARG001 - as above
    info, asked = device.request_device_code(), []

    def on_pending() -> None:
        asked.append(1)
        decide(client, info["user_code"], deny="1")
        later()

    with pytest.raises(DeviceCodeError) as refused:
        device.poll_device_token(info, on_pending=on_pending)

    assert (refused.value.error_code, len(asked)) == ("access_denied", 1)
    assert not ApiToken.objects.exists()


def test_the_real_client_is_told_that_nothing_is_refreshed(hub: None) -> None:  # noqa: ARG001 - as above
    with pytest.raises(DeviceCodeError) as refused:
        device.refresh_access_token("anything")

    assert refused.value.error_code == "invalid_grant"


def begun(now: datetime) -> tuple[DeviceLogin, str]:
    return device_logins.begin(program="hf", address="192.0.2.1", now=now)


def let_in(login: DeviceLogin, user: User, now: datetime) -> None:
    device_logins.approve(login=login, user=user, scopes=["models:read"], days=30, now=now)


def test_polls_that_come_too_soon_are_slowed_down(bo: User) -> None:  # noqa: ARG001 - the database
    now = timezone.now()
    _, code = begun(now)

    def at(seconds: float) -> Any:
        return device_logins.poll(code, now=now + timedelta(seconds=seconds))

    assert [at(0), at(5), at(6), at(12), at(27)] == [
        Refusal.PENDING,
        Refusal.PENDING,
        Refusal.SLOW_DOWN,
        Refusal.SLOW_DOWN,
        Refusal.PENDING,
    ]


def test_a_login_that_nobody_decided_in_time_is_over(bo: User) -> None:
    now = timezone.now()
    login, code = begun(now)
    late = now + timedelta(minutes=15)

    with pytest.raises(Invalid, match="No program waits"):
        device_logins.typed(str(login), user=bo, now=late)
    with pytest.raises(Conflict, match="expired"):
        let_in(login, bo, late)

    assert device_logins.poll(code, now=late) is Refusal.EXPIRED
    begun(now + timedelta(minutes=31))
    assert device_logins.poll(code, now=late) is Refusal.UNKNOWN


def test_one_decision_stands_and_gives_one_token(bo: User) -> None:
    now = timezone.now()
    login, code = begun(now)

    let_in(login, bo, now)
    with pytest.raises(Conflict):
        device_logins.deny(login=login, user=bo, now=now)
    found = [device_logins.poll(code, now=now + timedelta(seconds=10 * number)) for number in range(2)]

    assert isinstance(found[0], Fetched)
    assert found[1] is Refusal.UNKNOWN
    assert ApiToken.objects.count() == 1


def test_who_was_locked_out_meanwhile_lets_nobody_in(bo: User) -> None:
    now = timezone.now()
    login, code = begun(now)
    let_in(login, bo, now)

    User.objects.filter(pk=bo.pk).update(is_active=False)

    assert device_logins.poll(code, now=now) is Refusal.DENIED


def test_guessing_codes_is_limited(client: Client, bo: User) -> None:
    now = timezone.now()
    login, _ = begun(now)

    for number in range(20):
        with pytest.raises(Invalid):
            device_logins.typed(f"BBBB-{number:04}", user=bo, now=now)
    with pytest.raises(TooMany):
        device_logins.typed(str(login), user=bo, now=now)

    assert "many codes" in decide(client, str(login), approve="1").content.decode()
    assert DeviceLogin.objects.get().state == "pending"
    other = scenarios.person("cy")
    assert device_logins.typed(str(login), user=other, now=now) == login


def test_only_somebody_signed_in_decides_and_a_link_alone_decides_nothing(client: Client) -> None:
    login, _ = begun(timezone.now())

    answer = client.get(f"{PAGE}?code={login}")
    posted = decide(client, str(login), approve="1")
    assert {page["Location"].partition("?")[0] for page in (answer, posted)} == {"/account/login/"}
    assert f"{login}" in answer["Location"]
    client.force_login(scenarios.person("bo"))
    assert str(login) in client.get(f"{PAGE}?code={login}").content.decode()

    assert DeviceLogin.objects.get().state == "pending"


def test_a_page_of_another_site_cannot_let_a_program_in(bo: User) -> None:
    login, _ = begun(timezone.now())
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(bo)

    assert decide(browser, str(login), approve="1").status_code == 403
    assert DeviceLogin.objects.get().state == "pending"


@pytest.mark.parametrize("scopes", [[], ["payouts:write"], ["models:read", "tokens:write"]])
def test_no_more_is_given_than_the_page_offers(client: Client, bo: User, scopes: list[str]) -> None:  # noqa: ARG001 - signed in
    login, code = begun(timezone.now())

    page = decide(client, str(login), scopes=scopes, approve="1")

    assert page.status_code == 200
    assert device_logins.poll(code, now=timezone.now()) is Refusal.PENDING


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("device", {}, "invalid_client"),
        ("device", {"client_id": "another"}, "invalid_client"),
        ("token", {}, "unsupported_grant_type"),
        ("token", {"grant_type": "password", "client_id": CLIENT_ID}, "unsupported_grant_type"),
        ("token", {"grant_type": DEVICE_GRANT, "device_code": "x"}, "invalid_client"),
        ("token", {"grant_type": DEVICE_GRANT, "client_id": CLIENT_ID}, "invalid_grant"),
        (
            "token",
            {"grant_type": DEVICE_GRANT, "client_id": CLIENT_ID, "device_code": "mkd_" + "0" * 38},
            "invalid_grant",
        ),
    ],
)
def test_calls_that_are_none_are_refused_in_the_words_of_oauth(
    client: Client, path: str, body: dict[str, str], error: str
) -> None:
    answer = client.post(f"/oauth/{path}", _form(body), content_type="application/x-www-form-urlencoded")

    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer["Cache-Control"] == "no-store"


def _form(body: dict[str, str]) -> str:
    return str(httpx2.QueryParams(body))

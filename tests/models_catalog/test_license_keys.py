"""License keys and license files: what software shows online, and what proves itself without a network."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import scenarios
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from marketplace import license_files, signing
from marketplace.accounts.models import Role, User
from marketplace.errors import Conflict, Denied
from marketplace.license_files import LicenseFileError
from models_catalog.declarations import Declaration, as_json
from models_catalog.models import Grant, LicenseKey, LicenseTerms, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import grants, keys, offline, publishing, seats
from models_catalog.services.keys import Code, Scope

pytestmark = pytest.mark.django_db
TERMS = dataclasses.replace(COMMERCIAL_TEMPLATE, name="Keyed", term_days=30, seats=1)
ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/offline-licenses.md"
VALIDATE = "/api/v1/licenses/actions/validate-key"


def world() -> tuple[User, Grant, Release, datetime]:
    """An organisation's owner, its grant of vera/net under TERMS, the release, and now."""
    release = scenarios.published_release(scenarios.person("vera"), terms=TERMS)
    olga = scenarios.person("olga")
    scenarios.licensed(olga, release, licensee=scenarios.organization(olga, "acme"))
    grant = Grant.objects.select_related("licensee", "listing__namespace", "terms").get()
    return olga, grant, release, timezone.now()


def code_of(text: str, now: datetime, **scope: Any) -> Code:
    return keys.validate(text=text, scope=Scope(**scope), now=now).code


# Keys


def test_a_key_is_shown_once_and_kept_as_a_keyed_hash() -> None:
    olga, grant, _, now = world()

    key, text = keys.rotate(grant=grant, actor=olga, now=now)

    assert text.startswith("lic_")
    assert key.hint == text[-4:]
    stored = json.dumps(list(LicenseKey.objects.values()), default=str)
    assert text not in stored
    assert text[4:36] not in stored


def test_each_way_in_which_a_key_does_not_hold_has_its_code() -> None:
    olga, grant, release, now = world()
    _, text = keys.rotate(grant=grant, actor=olga, now=now)
    digest = release.artifacts.get(path="model.safetensors").sha256
    ann = scenarios.member(grant.licensee, "ann", Role.WRITER)

    good = {"product": "vera/net", "version": "1.0", "checksum": digest, "entitlements": ["fine_tune"], "user": "olga"}
    assert code_of(text, now, **good) is Code.VALID
    assert code_of("lic_" + "0" * 38, now) is Code.NOT_FOUND
    assert code_of("", now) is Code.NOT_FOUND
    assert code_of(text, now, product="vera/other") is Code.PRODUCT_SCOPE_MISMATCH
    assert code_of(text, now, version="9.9") is Code.VERSION_SCOPE_MISMATCH
    assert code_of(text, now, checksum="0" * 64) is Code.CHECKSUM_SCOPE_MISMATCH
    assert code_of(text, now, entitlements=["fine_tune", "redistribute"]) is Code.ENTITLEMENTS_MISSING
    assert code_of(text, now, entitlements=["fly"]) is Code.ENTITLEMENTS_MISSING
    seats.use(user=ann, release=release, now=now)
    assert code_of(text, now, user="ann") is Code.VALID
    assert code_of(text, now, user="olga") is Code.TOO_MANY_USERS
    assert code_of(text, now, user="nobody") is Code.TOO_MANY_USERS
    assert code_of(text, now + timedelta(days=31)) is Code.EXPIRED
    grants.revoke(grant=grant, actor=scenarios.vendor_of(release), reason="a breach", now=now)
    assert code_of(text, now) is Code.SUSPENDED


def test_a_key_of_other_terms_does_not_cover_a_version() -> None:
    olga, grant, release, now = world()
    _, text = keys.rotate(grant=grant, actor=olga, now=now)
    scenarios.published_release(scenarios.vendor_of(release), version="2.0", terms=COMMERCIAL_TEMPLATE)
    publishing.yank(user=scenarios.vendor_of(release), release=release, reason="old", now=now)

    assert code_of(text, now, version="1.0") is Code.VALID  # purchased means kept
    assert code_of(text, now, version="2.0") is Code.VERSION_SCOPE_MISMATCH


def test_rotating_ends_the_old_key_and_only_admins_do_it() -> None:
    olga, grant, _, now = world()
    ann = scenarios.member(grant.licensee, "ann", Role.WRITER)
    _, first = keys.rotate(grant=grant, actor=olga, now=now)

    with pytest.raises(Denied):
        keys.rotate(grant=grant, actor=ann, now=now)
    _, second = keys.rotate(grant=grant, actor=olga, now=now)

    assert (code_of(first, now), code_of(second, now)) == (Code.SUSPENDED, Code.VALID)
    keys.revoke(grant=grant, actor=olga, now=now)
    assert code_of(second, now) is Code.SUSPENDED
    with pytest.raises(Conflict):
        keys.rotate(grant=grant, actor=olga, now=now + timedelta(days=31))


def test_validate_key_answers_in_keygen_s_shape_without_signing_in(client: Client) -> None:
    olga, grant, _, now = world()
    _, text = keys.rotate(grant=grant, actor=olga, now=now)
    body = {"meta": {"key": text, "scope": {"version": "1.0", "entitlements": ["fine_tune"]}}}

    for content_type in ("application/json", "application/vnd.api+json"):
        answer = client.post(VALIDATE, body, content_type=content_type)
        assert answer.status_code == 200
        found = answer.json()
        assert {name: found[name] for name in ("valid", "detail", "code")} == {
            "valid": True,
            "detail": "is valid",
            "code": "VALID",
        }
        assert (found["meta"]["valid"], found["meta"]["code"]) == (True, "VALID")
        assert found["data"]["attributes"]["product"] == "vera/net"
    unknown = client.post(VALIDATE, {"meta": {"key": "lic_no"}}, content_type="application/json").json()
    assert (unknown["valid"], unknown["code"], unknown["data"]) == (False, "NOT_FOUND", None)
    assert client.post(VALIDATE, {"meta": {}}, content_type="application/json").status_code == 400


def test_guessing_keys_is_limited(client: Client) -> None:
    body = {"meta": {"key": "lic_guess"}}

    answers = [client.post(VALIDATE, body, content_type="application/json").status_code for _ in range(62)]

    assert answers[0] == 200
    assert answers[-1] == 429


# License files


def public(tmp_path: Path) -> str:
    path = tmp_path / "key.pem"
    path.write_text(signing.public_pem())
    return str(path)


def fault(text: str, key: Any, now: datetime) -> str:
    with pytest.raises(LicenseFileError) as caught:
        license_files.verify(text, key, now=now)
    return caught.value.fault.value


def test_a_license_file_names_what_it_covers_and_is_verified_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    olga, grant, release, now = world()
    file = tmp_path / "net.lic"
    file.write_text(offline.license_file(grant=grant, actor=olga, now=now))

    call_command("verify_license", str(file), "--public-key", public(tmp_path))

    payload = json.loads(capsys.readouterr().out)
    assert (payload["licensee"], payload["listing"], payload["terms_hash"]) == (
        "acme",
        "vera/net",
        grant.terms.terms_hash,
    )
    weights = release.artifacts.get(path="model.safetensors")
    assert payload["versions"][0]["files"]["model.safetensors"] == weights.sha256
    assert payload["rights"]["redistribute"] == "deny"
    assert payload["expires_at"] == grant.expires_at.isoformat()


def test_tampering_a_wrong_key_and_an_expired_file_are_told_apart() -> None:
    olga, grant, _, now = world()
    text = offline.license_file(grant=grant, actor=olga, now=now)
    key = signing.public_key()
    envelope = json.loads(base64.b64decode("".join(text.split("\n")[1:-2])))
    payload = {**json.loads(base64.b64decode(envelope["enc"])), "licensee": "mallory"}
    forged_payload = {**envelope, "enc": base64.b64encode(json.dumps(payload).encode()).decode()}
    forged = (
        f"{license_files.BEGIN}\n{base64.b64encode(json.dumps(forged_payload).encode()).decode()}\n{license_files.END}"
    )

    assert license_files.verify(text, key, now=now)["licensee"] == "acme"
    assert fault(forged, key, now) == "tampered"
    assert fault(text, Ed25519PrivateKey.generate().public_key(), now) == "wrong_key"
    assert fault(text, key, now + timedelta(days=31)) == "expired"
    for junk in (
        "",
        "hello",
        text[:-40],
        text.replace("LICENSE", "RECIPE"),
        f"{license_files.BEGIN}\n!\n{license_files.END}",
    ):
        assert fault(junk, key, now) == "unreadable"


def test_the_command_s_exit_status_tells_the_faults_apart(tmp_path: Path) -> None:
    olga, grant, _, now = world()
    file, key = tmp_path / "net.lic", public(tmp_path)
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    file.write_text(offline.license_file(grant=grant, actor=olga, now=now))

    def status(*arguments: str) -> int:
        with pytest.raises(CommandError) as caught:
            call_command("verify_license", *arguments)
        return caught.value.returncode

    assert status(str(file), "--public-key", other) == 3
    assert status(str(file), "--public-key", "no key") == 4
    assert status(str(tmp_path / "absent"), "--public-key", key) == 4
    Grant.objects.update(expires_at=now - timedelta(seconds=1))
    expired = license_files.armor({"key_id": "", "expires_at": "2020-01-01T00:00:00+00:00"}, sign=signing.sign)
    file.write_text(expired)
    assert status(str(file), "--public-key", key) == 1


def test_the_documented_lines_verify_a_license_file_alone(tmp_path: Path) -> None:
    olga, grant, _, now = world()
    script, file, key = tmp_path / "check.py", tmp_path / "net.lic", public(tmp_path)
    found = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    script.write_text(found.group(1))
    file.write_text(offline.license_file(grant=grant, actor=olga, now=now))

    def says(path: Path) -> tuple[int, str]:
        command = [sys.executable, str(script), str(path), key]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
        return done.returncode, done.stdout + done.stderr

    assert says(file) == (0, "valid acme vera/net\n")
    stranger = license_files.armor({"expires_at": None}, sign=Ed25519PrivateKey.generate().sign)
    file.write_text(stranger)
    assert says(file) == (1, "changed, or signed by another key\n")


def test_only_members_have_the_file_and_no_ended_license_has_one() -> None:
    olga, grant, _, now = world()

    with pytest.raises(Denied):
        offline.license_file(grant=grant, actor=scenarios.person("sam"), now=now)
    with pytest.raises(Conflict):
        offline.license_file(grant=grant, actor=olga, now=now + timedelta(days=31))


def test_who_states_what_the_terms_do_not_allow_has_no_file() -> None:
    olga, grant, _, now = world()
    Grant.objects.filter(pk=grant.pk).update(declaration=as_json(Declaration(country="DE", monthly_users=50_000)))
    LicenseTerms.objects.filter(pk=grant.terms_id).update(document={**grant.terms.document, "max_monthly_users": 1_000})
    grant = Grant.objects.select_related("licensee", "listing__namespace", "terms").get(pk=grant.pk)

    with pytest.raises(Denied) as caught:
        offline.license_file(grant=grant, actor=olga, now=now)

    assert "1,000" in caught.value.message

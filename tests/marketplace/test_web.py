"""The web server as a process: behind a proxy, in front of a body, on a port."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path

import pytest
from sites import PRODUCTION, Site, until

BEHIND_A_PROXY = {**PRODUCTION, "TRUSTED_PROXY": "127.0.0.1"}
HOST = {"Host": "models.example.com"}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what the tests are about
PAGE = "/api/v1/listings/"


def test_behind_its_proxy_a_production_site_answers_over_tls(site: Site) -> None:
    with site.running("web", **BEHIND_A_PROXY):
        over_tls, headers = site.get(PAGE, {**HOST, "X-Forwarded-Proto": "https"})
        plain, redirect = site.get(PAGE, {**HOST, "X-Forwarded-Proto": "http"})
        health, _ = site.get("/healthz", HOST)

    assert (over_tls, health) == (200, 200)
    assert "max-age=31536000" in headers["Strict-Transport-Security"]
    assert (plain, redirect["Location"]) == (301, f"https://models.example.com{PAGE}")


def test_the_word_of_any_other_address_on_tls_is_not_believed(site: Site) -> None:
    with site.running("web", **{**PRODUCTION, "TRUSTED_PROXY": "203.0.113.7"}):
        status, _ = site.get(PAGE, {**HOST, "X-Forwarded-Proto": "https"})

    assert status == 301


def test_limits_are_counted_by_the_address_that_the_proxy_names(site: Site) -> None:
    def ask(address: str) -> int:
        return site.get(PAGE, {**HOST, "X-Forwarded-Proto": "https", "X-Forwarded-For": address})[0]

    with site.running("web", **BEHIND_A_PROXY, RATE_LIMIT_ANONYMOUS="2/min"):
        answers = [ask("198.51.100.1") for _ in range(3)]
        # What a client puts before the proxy's own entry counts for nothing.
        answers += [ask("198.51.100.2"), ask("192.0.2.9, 198.51.100.1")]

    assert answers == [200, 200, 429, 200, 429]


def test_without_a_proxy_nobody_chooses_the_address_that_is_counted(site: Site) -> None:
    with site.running("web", RATE_LIMIT_ANONYMOUS="2/min"):
        answers = [site.get(PAGE, {"X-Forwarded-For": f"198.51.100.{number}"})[0] for number in range(3)]

    assert answers == [200, 200, 429]


@pytest.mark.parametrize("command", ["web", "up"])
def test_tls_without_a_proxy_is_refused_in_one_sentence(site: Site, command: str) -> None:
    done = site.manage(command, **PRODUCTION)

    assert done.returncode == 1
    assert "TRUSTED_PROXY" in done.stderr
    assert "Traceback" not in done.stderr


def open_files(pid: int) -> list[str]:
    return [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]


def test_a_body_is_spooled_to_the_data_disk_before_anybody_looks_who_sends_it(site: Site) -> None:
    with site.running("web") as server:
        site.get("/healthz")
        with socket.create_connection(("127.0.0.1", site.port)) as sender:
            sender.sendall(b"POST /api/v1/datasets/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n")
            sender.sendall(b"x" * 4_000_000)
            uploads = str(site.data_dir / "uploads")
            assert until(lambda: [name for name in open_files(server.pid) if name.startswith(uploads)] or None)


def test_clients_that_keep_their_connections_shut_nobody_out(site: Site) -> None:
    with site.running("web"), contextlib.ExitStack() as kept:
        site.get("/healthz")
        for _ in range(200):
            kept.enter_context(socket.create_connection(("127.0.0.1", site.port)))

        assert site.get("/healthz")[0] in {200, 503}


def test_a_taken_port_is_said_at_once_and_never_called_ready(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.port)):
        done = site.manage("up", "--no-demo")

    assert done.returncode == 1
    assert f"Port {site.port} is taken; set PORT." in done.stderr
    assert "Ready" not in done.stdout


def test_an_address_of_another_machine_is_refused(site: Site) -> None:
    done = site.manage("up", "--no-demo", HOST="203.0.113.7")

    assert done.returncode == 1
    assert "no address 203.0.113.7" in done.stderr


CREATE = "from marketplace import demo; demo.people_of_demo()"


def test_a_site_that_others_reach_does_not_seed_the_demo_unless_told_to(site: Site) -> None:
    refused = site.manage("seed_demo", HOST=EVERYWHERE)
    bootstrapped = site.manage("bootstrap", HOST=EVERYWHERE)
    accounts = site.manage("shell", "-c", "from marketplace.accounts.models import User; print(User.objects.count())")

    assert refused.returncode == 1
    assert "DEMO=1" in refused.stderr
    assert "no demo" in bootstrapped.stdout
    assert accounts.stdout.split()[-1] == "0"


@pytest.mark.parametrize("exposed", [{"HOST": EVERYWHERE}, {**BEHIND_A_PROXY}])
def test_a_site_that_others_reach_does_not_serve_accounts_with_known_passwords(
    site: Site, exposed: dict[str, str]
) -> None:
    assert site.manage("shell", "-c", CREATE).returncode == 0

    refused = site.manage("up", "--no-demo", **exposed)

    assert refused.returncode == 1
    assert "buyer, vendor, admin" in refused.stderr
    assert "DEMO=1" in refused.stderr
    assert "Ready" not in refused.stdout


def test_accounts_whose_passwords_were_changed_are_no_reason_to_refuse(site: Site) -> None:
    changed = f"{CREATE}\nfrom marketplace.accounts.models import User\nfor user in User.objects.all():\n"
    changed += "    user.set_password('of their own'); user.save()\nprint(demo.open_accounts())"

    assert site.manage("shell", "-c", changed).stdout.split()[-1] == "[]"


INSECURE = [
    ({"DEBUG": "1"}, "DEBUG"),
    ({"SECRET_KEY": "short"}, "SECRET_KEY must have"),
    ({"SECRET_KEY": ""}, "SECRET_KEY must be set"),
    ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
    ({"ALLOWED_HOSTS": "", "PRODUCTION": "1"}, "ALLOWED_HOSTS"),
]


@pytest.mark.parametrize(("change", "named"), INSECURE)
def test_production_refuses_to_start_with_an_insecure_setting_and_names_it(
    site: Site, change: dict[str, str], named: str
) -> None:
    done: subprocess.CompletedProcess[str] = site.manage("up", "--no-demo", **{**BEHIND_A_PROXY, **change})

    assert done.returncode != 0
    assert "Refusing to start in production" in done.stderr
    assert named in done.stderr
    assert "Ready" not in done.stdout

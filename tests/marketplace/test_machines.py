"""A site on two machines: pages, checks and the reaper on one, trainings on the other. They share PostgreSQL, Redis, a
bucket and the signing key, and no directory."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import bucket_server
import on_postgresql
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.db import connection
from live_stack import ROOT, Client, Stack

from marketplace import signing

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="part of `make test-postgres`, which has both servers"
)
END_SECONDS = 300
_BUILD = "import json, django; django.setup(); from chaos import world; print(json.dumps(world.build()))"
KEYS = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def shared() -> Iterator[dict[str, str]]:
    """The variables that all machines of one site have in common."""
    name = f"machines_{os.getpid()}"
    server, _, _ = on_postgresql.URL.rpartition("/")
    with psycopg.connect(on_postgresql.URL, autocommit=True) as server_itself, bucket_server.serving() as address:
        server_itself.execute(f"CREATE DATABASE {name}")
        boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="reader",
            aws_secret_access_key="secret",
        ).create_bucket(Bucket="blobs")
        try:
            yield {
                **KEYS,
                "DATABASE_URL": f"{server}/{name}",
                "BROKER_URL": on_postgresql.BROKER.rpartition("/")[0] + "/15",
                "STORAGE_URL": f"s3://blobs?endpoint_url={address}&region_name=us-east-1",
                "SECRET_KEY": "one for all the machines of this site, as long as it has to be",
                "ENGINE_THREADS": "1",
            }
        finally:
            server_itself.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_run_trains_on_another_machine_than_the_one_that_took_it(shared: dict[str, str], tmp_path: Path) -> None:
    here, there = tmp_path / "web", tmp_path / "worker"
    for folder in (here, there):
        folder.mkdir()
    web = Stack(here, "--no-demo", "--only", "web", "fast", "reaper", "predictor", **shared)
    worker = Stack(there, "--only", "train", **shared, SIGNING_KEY_FILE=str(here / "receipts.pem"))
    with web:
        token, dataset = json.loads(built(web))
        client = Client(web, token)
        status, run = client.call(
            "POST", "runs/", {"listing": "maker/net", "dataset": dataset, "strategy": "head", "hyper": {"epochs": 2}}
        )
        assert status == 201, run
        with worker:
            ended = web.wait_for(lambda: ended_run(client, run["id"]), seconds=END_SECONDS)
        _, receipt = client.call("GET", f"runs/{run['id']}/receipt/")
        with urllib.request.urlopen(f"{web.url}/api/v1/signing-key/") as answer:
            key = json.loads(answer.read())

    assert ended["status"] == "succeeded", ended
    public = load_pem_public_key(key["pem"].encode())
    assert isinstance(public, Ed25519PublicKey)
    public.verify(base64.b64decode(receipt["signature"]["value"]), signing.canonical(receipt["receipt"]))


def test_a_worker_waits_for_the_tables_that_the_web_machine_makes(shared: dict[str, str], tmp_path: Path) -> None:
    worker = Stack(tmp_path, "--only", "reaper", **shared)
    with worker.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--only", "reaper"],
            cwd=ROOT,
            env=worker.environment,
            stdout=log,
            stderr=log,
        )
    try:
        worker.process = process
        worker.wait_for(lambda: b"has not applied" in worker.log.read_bytes() or None, seconds=60)
        worker.manage("bootstrap", "--no-demo")
        worker.wait_for(lambda: b"Ready: reaper" in worker.log.read_bytes() or None, seconds=60)
    finally:
        process.terminate()
        assert process.wait(30) == 0


def built(web: Stack) -> str:
    """Returns the JSON of a buyer's token and the id of their data, with a model to tune beside them."""
    paths = ":".join(str(ROOT / folder) for folder in ("", "tests", "tests/engine"))
    environment = {**web.environment, "PYTHONPATH": paths, "DJANGO_SETTINGS_MODULE": "marketplace.settings"}
    done = subprocess.run(
        [sys.executable, "-c", _BUILD], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def ended_run(client: Client, uid: str) -> dict[str, str] | None:
    _, answer = client.call("GET", f"runs/{uid}/")
    return answer if answer["status"] in {"succeeded", "failed", "canceled"} else None

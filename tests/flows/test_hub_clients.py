"""Unmodified Hub clients against the running product: huggingface_hub, the `hf` command, transformers and timm."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_world import PROGRAM, Hub
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from live_stack import Client, Stack
from PIL import Image
from sklearn.datasets import load_sample_image

pytestmark = pytest.mark.stack
LICENSED = "openfield/efficientnet-lite2"
REVIEWED = "northlight/efficientnet-lite2-reviewed"
ENCODER = "quillworks/all-minilm-l6-v2"
NEWCOMER = """
from marketplace.accounts.models import User
from marketplace.accounts.services import people
people.namespace_of(User.objects.create_user("asker", "asker@example.com", "a long password"))
"""


@pytest.fixture(scope="module")
def hub(stack: Stack) -> Iterator[Hub]:
    token = stack.manage("issue_token", "buyer")
    client = Client(stack, token)
    for name in (LICENSED, ENCODER):
        _, listing = client.call("GET", f"listings/{name}/")
        status, grant = client.call("POST", f"listings/{name}/grants/", {"terms_hash": listing["terms"]["terms_hash"]})
        assert status in {200, 201}, grant
    return Hub(stack, token)


# Who asks, and what there is


def test_a_token_says_whose_it_is_and_a_bad_one_is_told_so(hub: Hub) -> None:
    assert hub.api.whoami()["name"] == "buyer"
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(endpoint=hub.stack.url, token="hf_of_somebody").model_info(LICENSED)


def test_a_model_is_one_and_the_same_by_branch_tag_and_digest(hub: Hub) -> None:
    main = hub.anonymous.model_info(LICENSED, files_metadata=True)

    assert (main.pipeline_tag, main.library_name, main.gated) == ("image-classification", "timm", "auto")
    assert hub.anonymous.model_info(LICENSED, revision="1.0").sha == main.sha
    assert hub.anonymous.model_info(LICENSED, revision=str(main.sha)[:8]).sha == main.sha
    assert [commit.commit_id for commit in hub.anonymous.list_repo_commits(LICENSED)] == [main.sha]
    refs = hub.anonymous.list_repo_refs(LICENSED)
    assert {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)} == {"main": main.sha, "1.0": main.sha}
    tree = {entry.path: entry.lfs.sha256 for entry in hub.anonymous.list_repo_tree(LICENSED, recursive=True)}
    assert tree == {file.rfilename: file.lfs["sha256"] for file in main.siblings or []}
    asked = hub.anonymous.get_paths_info(LICENSED, ["config.json", "no.json"])
    assert [entry.path for entry in asked] == ["config.json"]


def test_the_catalog_is_listed_filtered_and_paged(hub: Hub) -> None:
    every = [model.id for model in hub.anonymous.list_models()]

    assert len(set(every)) == len(every) > 100  # more than one page
    timm = [model.id for model in hub.anonymous.list_models(filter="timm", full=True)]
    assert LICENSED in timm
    assert "pytorch" not in {name.partition("/")[0] for name in timm}
    found = hub.anonymous.list_models(author="northlight", search="reviewed")
    assert [model.id for model in found] == [REVIEWED]
    segmenters = {model.pipeline_tag for model in hub.anonymous.list_models(pipeline_tag="image-segmentation")}
    assert segmenters == {"image-segmentation"}
    small = hub.anonymous.list_models(filter="license:apache-2.0", num_parameters="max:5M")
    assert "northlight/efficientnet-lite0" in {model.id for model in small}
    assert not {LICENSED, ENCODER} & {model.id for model in hub.anonymous.list_models(num_parameters="max:5M")}


def test_what_is_not_there_is_told_by_the_clients_own_exceptions(hub: Hub, tmp_path: Path) -> None:
    for api in (hub.api, hub.anonymous):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("northlight/nothing")
        with pytest.raises(RevisionNotFoundError):
            api.model_info(LICENSED, revision="9.9")
        with pytest.raises(RepositoryNotFoundError):
            api.dataset_info("northlight/data")
    with pytest.raises(RemoteEntryNotFoundError):
        hub.download(LICENSED, "nothing.json", tmp_path)
    with pytest.raises(RemoteEntryNotFoundError):
        list(hub.api.list_repo_tree(LICENSED, "nothing"))


# Files, under a license


def test_a_licensed_model_is_downloaded_whole_and_kept_by_its_digest(hub: Hub, tmp_path: Path) -> None:
    info = hub.api.model_info(LICENSED, files_metadata=True)

    folder = Path(snapshot_download(LICENSED, endpoint=hub.stack.url, token=hub.token, cache_dir=tmp_path))

    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert digests == {file.rfilename: file.lfs["sha256"] for file in info.siblings or []}
    assert folder.name == info.sha
    assert (folder / "model.safetensors").resolve().name == digests["model.safetensors"]
    assert hub.api.get_safetensors_metadata(LICENSED).files_metadata


def test_a_model_without_a_license_is_gated_with_the_reason_and_where_to_ask(hub: Hub, tmp_path: Path) -> None:
    page = f"{hub.stack.url}/models/{REVIEWED}/license/"
    with pytest.raises(GatedRepoError) as caught:
        hub.download(REVIEWED, "model.safetensors", tmp_path)
    assert page in str(caught.value)
    assert caught.value.response.status_code == 403
    with pytest.raises(GatedRepoError):
        snapshot_download(REVIEWED, endpoint=hub.stack.url, token=hub.token, cache_dir=tmp_path)
    with pytest.raises(GatedRepoError):
        hub.api.auth_check(REVIEWED)
    with pytest.raises(GatedRepoError) as stranger:
        hub.download(LICENSED, "config.json", tmp_path, token=False)
    assert stranger.value.response.status_code == 401
    # The card is what a buyer reads first: the model's page shows it too.
    assert hub.download(REVIEWED, "README.md", tmp_path, token=False).read_text(encoding="utf-8")


def test_a_vendor_decides_about_who_asks_by_the_clients_own_calls(hub: Hub, tmp_path: Path) -> None:
    hub.stack.manage("shell", "-c", NEWCOMER)
    vendor, asker = (Hub(hub.stack, hub.stack.manage("issue_token", name)) for name in ("vendor", "asker"))
    client = Client(hub.stack, asker.token)

    status, _ = client.call("POST", "access-requests/", {"listing": REVIEWED, "reason": "A study"})
    assert status == 201
    with pytest.raises(GatedRepoError, match="/api/v1/access-requests/"):
        asker.download(REVIEWED, "config.json", tmp_path)

    [row] = [row for row in vendor.api.list_pending_access_requests(REVIEWED) if row.username == "asker"]
    assert (row.status, row.fields) == ("pending", {"reason": "A study"})
    with pytest.raises(HfHubHTTPError, match="403"):
        asker.api.accept_access_request(REVIEWED, "asker")
    vendor.api.accept_access_request(REVIEWED, request_id=row.request_id)
    assert "asker" in {row.username for row in vendor.api.list_accepted_access_requests(REVIEWED)}
    with pytest.raises(HfHubHTTPError, match="404"):
        vendor.api.accept_access_request(REVIEWED, "asker")
    with pytest.raises(HfHubHTTPError, match="404"):
        vendor.api.reject_access_request(REVIEWED, "nobody-here", rejection_reason="No.")
    with pytest.raises(HfHubHTTPError, match="needs no approval"):
        vendor.api.grant_access(REVIEWED, "asker")

    # Approved is not licensed: the terms are the licensee's to accept.
    _, listing = client.call("GET", f"listings/{REVIEWED}/")
    client.call("POST", f"listings/{REVIEWED}/grants/", {"terms_hash": listing["terms"]["terms_hash"]})
    assert asker.download(REVIEWED, "config.json", tmp_path).is_file()


def test_a_range_is_a_read_too_and_a_head_has_the_size_and_no_body(hub: Hub) -> None:
    size = next(
        file.size
        for file in hub.api.model_info(LICENSED, files_metadata=True).siblings or []
        if file.rfilename == "model.safetensors"
    )
    weights, mine = f"/{LICENSED}/resolve/main/model.safetensors", {"Authorization": f"Bearer {hub.token}"}
    # One connection for all: bytes after a HEAD would be taken for the head of the next answer.
    connection = http.client.HTTPConnection("127.0.0.1", hub.stack.port)

    def ask(method: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()

    head, nothing = ask("HEAD", weights, **mine)
    assert (head.status, head.headers["Content-Length"], nothing) == (200, str(size), b"")
    absent, nothing = ask("HEAD", f"/{LICENSED}/resolve/main/x", **mine)
    assert (absent.status, absent.headers["X-Error-Code"], nothing) == (404, "EntryNotFound", b"")
    part, content = ask("GET", weights, Range="bytes=100-199", **mine)
    assert (part.status, part.headers["Content-Range"], len(content)) == (206, f"bytes 100-199/{size}", 100)
    assert ask("GET", weights, Range=f"bytes={size}-", **mine)[0].status == 416
    assert ask("GET", weights, Range="bytes=100-199")[0].status == 401


def test_two_hundred_readers_at_once_get_their_bytes_over_connections_that_stay_open(hub: Hub) -> None:
    """More than a server usually lets in; nobody closes before everybody has read."""
    mine = {"Authorization": f"Bearer {hub.stack.manage('issue_token', 'vendor')}"}
    weights = "/northlight/efficientnet-lite0/resolve/main/model.safetensors"
    with contextlib.ExitStack() as kept:
        connections = [http.client.HTTPConnection("127.0.0.1", hub.stack.port, timeout=300) for _ in range(200)]
        for number, connection in enumerate(connections):
            kept.callback(connection.close)
            connection.request(
                "GET", weights, headers={**mine, "Range": f"bytes={number * 1000}-{number * 1000 + 1999}"}
            )
        answers = [connection.getresponse() for connection in connections]
        parts = [answer.read() for answer in answers]

    assert {answer.status for answer in answers} == {206}
    assert {len(part) for part in parts} == {2000}
    assert all(one[1000:] == two[:1000] for one, two in itertools.pairwise(parts))
    assert len(set(parts)) > 1


def test_the_hf_command_downloads_and_says_what_is_missing(hub: Hub, tmp_path: Path) -> None:
    hf = str(Path(sys.executable).with_name("hf"))

    fine = hub.run(tmp_path / "a", hf, "download", LICENSED, "config.json", "--local-dir", str(tmp_path / "here"))
    refused = hub.run(tmp_path / "b", hf, "download", REVIEWED, "config.json")

    assert fine.returncode == 0, fine.stderr
    assert json.loads((tmp_path / "here" / "config.json").read_text(encoding="utf-8"))["architecture"]
    assert refused.returncode == 1
    assert f"{hub.stack.url}/models/{REVIEWED}/license/" in refused.stdout + refused.stderr


# Libraries


def test_timm_loads_a_licensed_model_and_answers_as_this_site_does(hub: Hub, tmp_path: Path) -> None:
    picture = tmp_path / "temple.png"
    Image.fromarray(load_sample_image("china.jpg")).save(picture)

    ran = hub.run(tmp_path / "home", sys.executable, str(PROGRAM), "classify", LICENSED, str(picture))
    assert ran.returncode == 0, ran.stderr
    _, answer = Client(hub.stack, hub.token).call(
        "POST", f"predict/{LICENSED}/", body=picture.read_bytes(), kind="image/png"
    )

    theirs, ours = json.loads(ran.stdout), answer["predictions"][0]
    assert theirs["index"] == ours["index"]
    assert theirs["confidence"] == pytest.approx(ours["confidence"], abs=0.02)


def test_transformers_loads_a_licensed_encoder(hub: Hub, tmp_path: Path) -> None:
    ran = hub.run(tmp_path, sys.executable, str(PROGRAM), "embed", ENCODER, "Hello, world!")

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"shape": [1, 6, 384], "parameters": 22_713_216}

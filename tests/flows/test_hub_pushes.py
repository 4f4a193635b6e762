"""Unmodified Hub clients push to the running product: huggingface_hub with and without hf-xet, the `hf` command, timm and
transformers; up to a model that a stranger licenses and loads."""

from __future__ import annotations

import hashlib
import io
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_world import PROGRAM, Hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from live_stack import Client, Stack

pytestmark = pytest.mark.stack
CHECK_SECONDS = 240
LARGE = random.Random(7).randbytes(3_000_000) + b"\0\0\x80\x3f" * 250_000  # noise as of weights, and what compresses


@pytest.fixture(scope="module")
def vendor(stack: Stack) -> Iterator[Hub]:
    return Hub(stack, stack.manage("issue_token", "vendor"))


@pytest.fixture(scope="module")
def stranger(stack: Stack) -> Hub:
    return Hub(stack, stack.manage("issue_token", "buyer"))


@pytest.fixture
def repository(vendor: Hub, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty one, which goes with the test."""
    name = f"northlight/{request.node.name.split('[')[0][5:60].replace('_', '-')}"
    vendor.api.create_repo(name)
    yield name
    vendor.api.delete_repo(name, missing_ok=True)


def program(hub: Hub, home: Path, *arguments: str, **changes: str) -> dict[str, Any]:
    ran = hub.run(home, sys.executable, str(PROGRAM), *arguments, **changes)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(json.loads(ran.stdout), told=ran.stderr)


def folder(path: Path, weights: bytes = LARGE) -> Path:
    path.mkdir(exist_ok=True)
    (path / "sub").mkdir(exist_ok=True)
    (path / "README.md").write_text("---\nlicense: mit\n---\n# 模型 of a test\n", encoding="utf-8")
    (path / "config.json").write_text('{"architecture": "test_efficientnet"}')
    (path / "model.safetensors").write_bytes(weights)
    (path / "sub" / "notes of it, 100% + #1?.txt").write_text("notes")
    (path / "sub" / "说明.txt").write_text("说明", encoding="utf-8")
    return path


def contents(hub: Hub, name: str, cache: Path, revision: str = "main") -> dict[str, str]:
    """Downloads all files and returns their digests."""
    paths = hub.api.list_repo_files(name, revision=revision)
    downloaded = {path: hub.download(name, path, cache, revision=revision).read_bytes() for path in paths}
    return {path: hashlib.sha256(content).hexdigest() for path, content in downloaded.items()}


def digests(path: Path) -> dict[str, str]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# Folders, by every way that the clients have


@pytest.mark.parametrize("xet", ["", "1"], ids=["xet", "lfs"])
def test_a_folder_arrives_whole_and_its_repeat_is_no_commit(
    vendor: Hub, repository: str, tmp_path: Path, xet: str
) -> None:
    sent = folder(tmp_path / "model")
    changes = {"HF_HUB_DISABLE_XET": xet} if xet else {}

    first = program(vendor, tmp_path / "home", "upload", repository, str(sent), **changes)["oid"]
    again = program(vendor, tmp_path / "home", "upload", repository, str(sent), **changes)["oid"]

    assert (first, vendor.api.model_info(repository).sha) == (again, first)
    assert contents(vendor, repository, tmp_path / "cache") == digests(sent)
    # From the same machine, after a change in the middle: the clients remember what they have sent.
    folder(sent, LARGE[:1_000_000] + b"changed" + LARGE[1_000_000:])
    changed = program(vendor, tmp_path / "home", "upload", repository, str(sent), **changes)["oid"]
    assert changed != first
    assert contents(vendor, repository, tmp_path / "other cache") == digests(sent)


def test_a_buffer_arrives_too(vendor: Hub, repository: str, tmp_path: Path) -> None:
    vendor.api.upload_file(path_or_fileobj=io.BytesIO(LARGE), path_in_repo="model.safetensors", repo_id=repository)

    assert vendor.download(repository, "model.safetensors", tmp_path).read_bytes() == LARGE


def test_the_hf_command_uploads_and_says_what_it_left_out(vendor: Hub, repository: str, tmp_path: Path) -> None:
    hf = str(Path(sys.executable).with_name("hf"))
    sent = folder(tmp_path / "model")
    (sent / "empty.txt").touch()
    expected = digests(sent)
    (sent / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n")

    ran = vendor.run(tmp_path / "home", hf, "upload", repository, str(sent))

    assert ran.returncode == 0, ran.stderr
    assert "pytorch_model.bin: Pickled weights can run code" in ran.stderr
    assert contents(vendor, repository, tmp_path / "cache") == expected
    # A branch that is not there is made: a draft of that version.
    branched = vendor.run(tmp_path / "home", hf, "upload", repository, str(sent), "--revision", "2.0")
    assert branched.returncode == 0, branched.stderr
    assert {"main", "1.0", "2.0"} <= {branch.name for branch in vendor.api.list_repo_refs(repository).branches}


# What commits may and may not


def test_commits_overwrite_delete_and_tell_a_stale_parent(vendor: Hub, repository: str, tmp_path: Path) -> None:
    api = vendor.api
    files = [CommitOperationAdd(name, f"content of {name}".encode()) for name in ("a.txt", "b.txt", "sub/c.txt")]
    first = api.create_commit(repository, files, commit_message="Add")

    change = [CommitOperationAdd("a.txt", b"new"), CommitOperationDelete("sub/")]
    second = api.create_commit(repository, change, commit_message="Change", parent_commit=first.oid)

    assert sorted(api.list_repo_files(repository)) == ["a.txt", "b.txt"]
    assert sorted(api.list_repo_files(repository, revision=first.oid)) == ["a.txt", "b.txt", "sub/c.txt"]
    assert vendor.download(repository, "a.txt", tmp_path, revision=first.oid).read_bytes() == b"content of a.txt"
    assert [row.title for row in api.list_repo_commits(repository)] == ["Change", "Add"]
    assert api.model_info(repository, revision=second.oid).sha == second.oid
    with pytest.raises(HfHubHTTPError) as stale:
        api.create_commit(
            repository, [CommitOperationAdd("d.txt", b"late")], commit_message="Late", parent_commit=first.oid
        )
    assert stale.value.response.status_code == 412
    with pytest.raises(RemoteEntryNotFoundError, match="A file with this name doesn't exist"):
        api.delete_file("nothing.txt", repository)
    with pytest.raises(RevisionNotFoundError):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repository, revision="7.7")
    assert vendor.download(repository, "a.txt", tmp_path).read_bytes() == b"new"


def test_a_card_that_cannot_be_read_stops_the_commit(vendor: Hub, repository: str) -> None:
    with pytest.raises(ValueError, match="no plain YAML"):
        vendor.api.upload_file(
            path_or_fileobj=b"---\na: &x [1]\nb: *x\n---\n", path_in_repo="README.md", repo_id=repository
        )
    assert vendor.api.list_repo_files(repository) == []


def test_strangers_neither_see_nor_change_it(vendor: Hub, stranger: Hub, repository: str, tmp_path: Path) -> None:
    vendor.api.upload_file(path_or_fileobj=LARGE, path_in_repo="model.safetensors", repo_id=repository)
    released = "northlight/efficientnet-lite0"

    for act in (
        lambda: stranger.api.model_info(repository),
        lambda: stranger.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repository),
        lambda: stranger.download(repository, "model.safetensors", tmp_path),
    ):
        with pytest.raises(RepositoryNotFoundError):
            act()
    with pytest.raises(HfHubHTTPError) as refused:
        stranger.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=released)
    assert refused.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError) as foreign:
        stranger.api.create_repo("northlight/mine")
    assert foreign.value.response.status_code == 403
    reader = Hub(vendor.stack, vendor.stack.manage("issue_token", "vendor", "--scope", "models:read"))
    with pytest.raises(HfHubHTTPError, match="models:write"):
        reader.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repository)
    assert vendor.api.list_repo_files(repository) == ["model.safetensors"]


def test_what_is_not_offered_is_said_in_words(vendor: Hub, repository: str) -> None:
    api = vendor.api
    acts: list[tuple[int, Callable[[], Any]]] = [
        (501, lambda: api.create_pull_request(repository, title="x")),
        (501, lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repository, create_pr=True)),
        (501, lambda: api.update_repo_settings(repository, gated="auto")),
        (501, lambda: api.move_repo(repository, "northlight/other-name")),
        (501, lambda: api.create_repo("northlight/data", repo_type="dataset")),
        (403, lambda: api.super_squash_history(repository)),
        (403, lambda: api.delete_branch(repository, branch="main")),
        (409, lambda: api.delete_repo("northlight/efficientnet-lite0")),
        (409, lambda: api.create_repo(repository)),
    ]
    for status, act in acts:
        with pytest.raises(HfHubHTTPError) as caught:
            act()
        assert caught.value.response.status_code == status
        assert len(caught.value.server_message or "") > 20
    assert api.create_repo(repository, exist_ok=True).repo_id == repository


# From a push to what is sold


def test_timm_pushes_a_model_and_a_tag_publishes_it_once_it_is_verified(
    vendor: Hub, stranger: Hub, tmp_path: Path
) -> None:
    name = "northlight/pushed-by-timm"

    pushed = program(vendor, tmp_path / "home", "push-timm", name)
    assert "pytorch_model.bin" in pushed["told"]
    vendor.api.create_tag(name, tag="1.0")
    client = Client(vendor.stack, vendor.token)
    address = f"listings/{name}/releases/1.0/"

    def published() -> dict[str, Any] | None:
        release = client.call("GET", address)[1]
        assert release["status"] in {"verifying", "ready", "published"}, release["report"]
        return release if release["status"] == "published" else None

    release = vendor.stack.wait_for(published, seconds=CHECK_SECONDS)
    assert (release["parameters"], release["labels"]) == (pushed["parameters"], ["cat", "dog", "fox"])
    assert [tag.name for tag in stranger.api.list_repo_refs(name).tags] == ["1.0"]
    buyer = Client(stranger.stack, stranger.token)
    _, listing = buyer.call("GET", f"listings/{name}/")
    status, grant = buyer.call("POST", f"listings/{name}/grants/", {"terms_hash": listing["terms"]["terms_hash"]})
    assert status == 201, grant
    picture = tmp_path / "grey.png"
    picture.write_bytes(_png())
    answer = program(stranger, tmp_path / "buyer", "classify", name, str(picture))
    assert answer["index"] in {0, 1, 2}
    # A push on top of it is the next version, which nobody else sees.
    vendor.api.upload_file(path_or_fileobj=b"notes", path_in_repo="notes.txt", repo_id=name)
    assert "notes.txt" in vendor.api.list_repo_files(name)
    assert "notes.txt" not in stranger.api.list_repo_files(name)
    assert [branch.name for branch in vendor.api.list_repo_refs(name).branches] == ["main", "1.1"]
    # Other tests look at the catalog as it was seeded.
    assert client.call("POST", f"{address}yank/", {"reason": "A test's."})[0] == 200


def _png() -> bytes:
    from PIL import Image  # noqa: PLC0415 - one test's

    content = io.BytesIO()
    Image.new("RGB", (160, 160), "grey").save(content, "PNG")
    return content.getvalue()


def test_transformers_pushes_model_and_tokenizer_to_one_draft(vendor: Hub, repository: str, tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", ",", "!", *(f"w{n}" for n in range(3000))]
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(words))

    pushed = program(vendor, tmp_path / "home", "push-transformers", repository, str(vocabulary))

    first, second, again = pushed["oids"]
    assert (first != second, second) == (True, again)
    loaded = program(vendor, tmp_path / "fresh", "embed", repository, "Hello, world!")
    assert (loaded["shape"], loaded["parameters"]) == ([1, 6, 128], pushed["parameters"])
    _, listing = Client(vendor.stack, vendor.token).call("GET", f"listings/{repository}/")
    assert (listing["framework"], listing["task"]) == ("transformers", "text-classification")
    assert listing["architecture"] == "BertModel"

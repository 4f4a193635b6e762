"""Unmodified Hub clients read a buyer's data set from the running product."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_world import Hub
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from live_stack import Client, Stack, multipart

pytestmark = pytest.mark.stack
UPLOAD = Path("static/examples/shapes.zip")
NAME = "hub-shapes"
MINE = f"buyer/{NAME}"
CHECK_SECONDS = 240


@pytest.fixture(scope="module")
def hub(stack: Stack) -> Iterator[Hub]:
    """A buyer with a data set that the check has accepted."""
    token = stack.manage("issue_token", "buyer")
    client = Client(stack, token)
    body, kind = multipart({"name": NAME, "task": "image-classification"}, "shapes.zip", UPLOAD.read_bytes())
    status, dataset = client.call("POST", "datasets/", body=body, kind=kind)
    assert status == 201, dataset

    def is_valid() -> bool | None:
        return client.call("GET", f"datasets/{dataset['id']}/")[1]["status"] == "valid" or None

    stack.wait_for(is_valid, seconds=CHECK_SECONDS)
    yield Hub(stack, token)
    assert client.call("DELETE", f"datasets/{dataset['id']}/")[0] == 204


def test_a_data_set_is_found_and_told_the_same_by_every_name_of_its_revision(hub: Hub) -> None:
    assert MINE in {dataset.id for dataset in hub.api.list_datasets(search="hub-sha", author="buyer")}
    assert MINE not in {dataset.id for dataset in hub.anonymous.list_datasets()}

    main = hub.api.dataset_info(MINE, files_metadata=True)

    assert (main.private, main.gated, main.card_data.pretty_name) == (True, False, NAME)
    assert main.created_at is not None
    assert {hub.api.dataset_info(MINE, revision=revision).sha for revision in ("v1", str(main.sha))} == {main.sha}
    refs = hub.api.list_repo_refs(MINE, repo_type="dataset")
    assert {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)} == {"main": main.sha, "v1": main.sha}
    assert [row.commit_id for row in hub.api.list_repo_commits(MINE, repo_type="dataset")] == [main.sha]
    tree = {entry.path: entry.size for entry in hub.api.list_repo_tree(MINE, repo_type="dataset", expand=True)}
    assert tree == {file.rfilename: file.size for file in main.siblings or []}
    told = hub.api.get_paths_info(MINE, ["shapes.zip", "no"], repo_type="dataset")
    assert [(entry.path, entry.size) for entry in told] == [("shapes.zip", UPLOAD.stat().st_size)]


def test_a_snapshot_is_the_upload_and_what_the_check_says_of_it(hub: Hub, tmp_path: Path) -> None:
    given = {"endpoint": hub.stack.url, "token": hub.token, "cache_dir": tmp_path}
    folder = Path(snapshot_download(MINE, repo_type="dataset", **given))

    assert folder.name == hub.api.dataset_info(MINE).sha
    assert (folder / "shapes.zip").read_bytes() == UPLOAD.read_bytes()
    assert (folder / "shapes.zip").resolve().name == hashlib.sha256(UPLOAD.read_bytes()).hexdigest()
    items = [json.loads(line) for line in (folder / "index.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {item["split"] for item in items} >= {"train", "test"}
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["labels"]
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\npretty_name: hub-shapes\n")
    again = Path(snapshot_download(MINE, repo_type="dataset", revision="v1", **given))
    assert again == folder


def test_the_hf_command_downloads_a_data_set(hub: Hub, tmp_path: Path) -> None:
    hf = str(Path(sys.executable).with_name("hf"))

    ran = hub.run(
        tmp_path, hf, "download", "--repo-type", "dataset", MINE, "shapes.zip", "--local-dir", str(tmp_path / "here")
    )

    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "here" / "shapes.zip").read_bytes() == UPLOAD.read_bytes()


def test_what_is_not_there_or_not_ones_own_is_told_by_the_clients_own_exceptions(hub: Hub, tmp_path: Path) -> None:
    stranger = Hub(hub.stack, hub.stack.manage("issue_token", "vendor"))
    for api in (stranger.api, hub.anonymous):
        for name in (MINE, "buyer/never-was"):
            with pytest.raises(RepositoryNotFoundError):
                api.dataset_info(name)
            with pytest.raises(RepositoryNotFoundError):
                api.list_repo_tree(name, repo_type="dataset").__next__()
            with pytest.raises(RepositoryNotFoundError):
                api.get_paths_info(name, ["shapes.zip"], repo_type="dataset")
    for token in (stranger.token, False):
        with pytest.raises(RepositoryNotFoundError):
            hub.download(MINE, "shapes.zip", tmp_path, repo_type="dataset", token=token)
    with pytest.raises(RevisionNotFoundError):
        hub.api.dataset_info(MINE, revision="v9")
    with pytest.raises(RemoteEntryNotFoundError):
        hub.download(MINE, "nothing.csv", tmp_path, repo_type="dataset")


def test_who_would_upload_one_is_told_where(hub: Hub) -> None:
    with pytest.raises(HfHubHTTPError, match="/api/v1/datasets/"):
        hub.api.create_repo("buyer/more", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="/api/v1/datasets/"):
        hub.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.csv", repo_id=MINE, repo_type="dataset")

"""What Hub clients may not write, without the clients: tests/flows/test_hub_pushes.py has those."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from finetuning.services import leftovers
from marketplace import storage
from marketplace.accounts.models import Role, User
from marketplace.accounts.services import tokens
from marketplace.errors import Conflict
from models_catalog.models import Artifact, Commit, Listing, Release
from models_catalog.services import commits, drafts, publishing, quarantine

pytestmark = pytest.mark.django_db
CONFIG = json.dumps({"architecture": "test_efficientnet", "num_classes": 2})
CARD = "---\nlicense: mit\n---\n# A net"


@dataclass(frozen=True, slots=True)
class Pusher:
    """Somebody with a token, as a Hub client would send requests for them."""

    user: User
    secret: str

    def ask(self, method: str, address: str, body: Any = None, kind: str = "application/json") -> Any:
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        headers = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        return Client().generic(method, address, content, content_type=kind, headers=headers)

    def commit(self, repository: str, *lines: Any, revision: str = "main", parent: str = "") -> Any:
        header = {"key": "header", "value": {"summary": "Upload", "description": "", "parentCommit": parent or None}}
        body = "\n".join(json.dumps(line) for line in (header, *lines))
        return self.ask("POST", f"/api/models/{repository}/commit/{revision}", body, "application/x-ndjson")

    def files(self, repository: str, revision: str = "main") -> list[str]:
        told = self.ask("GET", f"/api/models/{repository}/tree/{revision}?recursive=true").json()
        return [entry["path"] for entry in told]


def pusher(username: str, scope: str = "models:write") -> Pusher:
    user = User.objects.filter(username=username).first() or scenarios.person(username)
    return Pusher(user, tokens.issue(user=user, name="ci", scopes=[scope])[1])


def file(path: str, content: str) -> dict[str, Any]:
    encoded = base64.b64encode(content.encode()).decode()
    return {"key": "file", "value": {"path": path, "content": encoded, "encoding": "base64"}}


def pointer(path: str, oid: str, size: int) -> dict[str, Any]:
    return {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid, "size": size}}


@pytest.fixture
def vera() -> Pusher:
    return pusher("vera")


@pytest.fixture
def repository(vera: Pusher) -> str:
    assert vera.ask("POST", "/api/repos/create", {"name": "net", "organization": None}).status_code == 200
    return "vera/net"


# Repositories


def test_a_repository_is_a_listing_that_nobody_else_sees(vera: Pusher, repository: str) -> None:
    again = vera.ask("POST", "/api/repos/create", {"name": "net"})

    assert (again.status_code, again.json()["url"]) == (409, "http://testserver/vera/net")
    assert vera.files(repository) == []
    assert pusher("sam").ask("GET", f"/api/models/{repository}").status_code == 404
    assert vera.ask("GET", f"/api/models/{repository}").json()["private"] is True


def test_one_creates_only_in_namespaces_that_one_writes_for(vera: Pusher) -> None:
    owner = scenarios.person("olga")
    lab = scenarios.organization(owner, "lab")
    scenarios.member(lab, "rita", Role.READER)
    scenarios.member(lab, "walt", Role.WRITER)
    asked = {"name": "net", "organization": "lab"}

    assert vera.ask("POST", "/api/repos/create", asked).status_code == 403
    assert pusher("rita").ask("POST", "/api/repos/create", asked).status_code == 403
    assert pusher("walt").ask("POST", "/api/repos/create", asked).status_code == 200
    assert vera.ask("POST", "/api/repos/create", {**asked, "organization": "nobody"}).status_code == 403
    assert vera.ask("POST", "/api/repos/create", {"name": "data", "type": "dataset"}).status_code == 501
    assert vera.ask("POST", "/api/repos/create", {"name": "a..b"}).status_code == 400


def test_a_draft_is_deleted_and_what_was_published_stays(vera: Pusher, repository: str) -> None:
    release = scenarios.published_release(vera.user, name="sold")
    vera.ask("GET", f"/{repository}/resolve/main/README.md")

    refused = vera.ask("DELETE", "/api/repos/delete", {"name": "sold", "organization": "vera"})
    stranger = pusher("sam").ask("DELETE", "/api/repos/delete", {"name": "sold", "organization": "vera"})
    assert (refused.status_code, "Withdraw" in refused["X-Error-Message"]) == (409, True)
    assert stranger.status_code == 403
    assert vera.commit(repository, file("config.json", CONFIG)).status_code == 200
    assert vera.ask("GET", f"/{repository}/resolve/main/config.json").status_code == 200
    assert vera.ask("DELETE", "/api/repos/delete", {"name": "net", "organization": "vera"}).status_code == 200
    assert [str(row) for row in Listing.objects.all()] == [str(release.listing)]
    gone = vera.ask("DELETE", "/api/repos/delete", {"name": "net", "organization": "vera"})
    assert (gone.status_code, gone["X-Error-Code"]) == (404, "RepoNotFound")


# Commits


def test_a_commit_makes_the_draft_and_says_what_the_model_is(vera: Pusher, repository: str) -> None:
    answer = vera.commit(repository, file("config.json", CONFIG), file("README.md", CARD))

    assert answer.status_code == 200, answer.content
    release = Release.objects.get()
    assert (release.version, release.status, release.terms.license_id) == ("1.0", "draft", "mit")
    assert release.listing.architecture == "test_efficientnet"
    oid = answer.json()["commitOid"]
    assert answer.json()["commitUrl"] == f"http://testserver/vera/net/commit/{oid}"
    assert vera.ask("GET", f"/api/models/{repository}").json()["sha"] == oid
    assert vera.files(repository, oid[:10]) == ["README.md", "config.json"]
    assert vera.ask("GET", f"/{repository}/resolve/{oid}/config.json").getvalue().decode() == CONFIG


def test_a_repeat_is_no_commit_and_the_clients_can_see_it_coming(vera: Pusher, repository: str) -> None:
    first = vera.commit(repository, file("config.json", CONFIG)).json()["commitOid"]

    asked = {"files": [{"path": "config.json", "size": len(CONFIG), "sample": ""}]}
    told = vera.ask("POST", f"/api/models/{repository}/preupload/main", asked).json()["files"][0]
    assert vera.commit(repository, file("config.json", CONFIG)).json()["commitOid"] == first
    git = hashlib.sha1(f"blob {len(CONFIG)}\0{CONFIG}".encode(), usedforsecurity=False).hexdigest()
    assert told == {"path": "config.json", "uploadMode": "regular", "shouldIgnore": False, "oid": git}


def test_a_commit_on_a_published_version_begins_the_next_one(vera: Pusher) -> None:
    published = scenarios.published_release(vera.user)
    buyer = pusher("bob", "models:read")

    answer = vera.commit("vera/net", file("notes.txt", "new"), parent=published.sha)

    assert answer.status_code == 200, answer.content
    draft = Release.objects.get(version="1.1")
    assert (draft.status, draft.terms_id) == ("draft", published.terms_id)
    assert vera.files("vera/net") == ["README.md", "config.json", "model.safetensors", "notes.txt"]
    assert vera.files("vera/net", "1.0") == buyer.files("vera/net") == ["README.md", "config.json", "model.safetensors"]
    sha = answer.json()["commitOid"]
    assert buyer.ask("GET", f"/api/models/vera/net/revision/{sha}").status_code == 404
    branches = vera.ask("GET", "/api/models/vera/net/refs").json()["branches"]
    assert {row["name"]: row["targetCommit"] for row in branches} == {"main": sha, "1.1": sha}
    assert len(vera.ask("GET", f"/api/models/vera/net/commits/{sha}").json()) == 2
    assert vera.commit("vera/net", file("more.txt", "x"), revision="1.0").status_code == 403


def test_files_are_replaced_and_deleted_alone_and_by_folder(vera: Pusher, repository: str) -> None:
    vera.commit(repository, file("a.txt", "1"), file("sub/b.txt", "2"), file("sub/deep/c.txt", "3"))

    done = vera.commit(
        repository,
        file("a.txt", "new"),
        {"key": "deletedFolder", "value": {"path": "sub"}},
        file("sub/d.txt", "4"),
    )
    missing = vera.commit(repository, {"key": "deletedFile", "value": {"path": "sub/b.txt"}})

    assert done.status_code == 200
    assert vera.files(repository) == ["a.txt", "sub", "sub/d.txt"]
    assert (missing.status_code, missing["X-Error-Code"]) == (404, "EntryNotFound")
    assert missing["X-Error-Message"] == "A file with this name doesn't exist"


def test_what_was_pushed_stays_readable_under_its_revision_to_its_writers(vera: Pusher, repository: str) -> None:
    weights = file("model.safetensors", "weights")
    first = vera.commit(repository, file("config.json", CONFIG), file("README.md", CARD), weights).json()["commitOid"]
    second = vera.commit(repository, file("model.safetensors", "better")).json()["commitOid"]

    def read(who: Pusher, revision: str) -> Any:
        return who.ask("GET", f"/{repository}/resolve/{revision}/model.safetensors")

    assert (read(vera, first).getvalue(), read(vera, second).getvalue()) == (b"weights", b"better")
    assert (
        read(vera, first)["X-Repo-Commit"]
        == vera.ask("GET", f"/api/models/{repository}/revision/{first}").json()["sha"]
    )
    told = [row["id"] for row in vera.ask("GET", f"/api/models/{repository}/commits/main").json()]
    earlier = [row["id"] for row in vera.ask("GET", f"/api/models/{repository}/commits/{first}").json()]
    assert (told, earlier) == ([second, first], [first])
    release = scenarios.verify(vera.user, Release.objects.get())
    publishing.publish(user=vera.user, release=release, now=timezone.now())
    assert read(vera, first).getvalue() == b"weights"
    assert read(pusher("bob"), first).status_code == 404
    Release.objects.filter(pk=release.pk).update(
        status="quarantined", quarantined_from="published", quarantine_reason="Malware."
    )
    assert read(vera, first)["X-Error-Code"] == "GatedRepo"


def test_the_past_of_a_draft_is_kept_for_a_while_and_not_without_end(vera: Pusher, repository: str) -> None:
    pushed = [vera.commit(repository, file("a.txt", f"{number}")).json()["commitOid"] for number in range(22)]

    kept = [vera.ask("GET", f"/{repository}/resolve/{oid}/a.txt").status_code for oid in pushed]
    assert kept == [404] * 2 + [200] * 20
    leftovers.sweep(now=timezone.now() + commits.KEPT_FOR + timedelta(minutes=1))
    assert vera.ask("GET", f"/{repository}/resolve/{pushed[-2]}/a.txt").status_code == 404
    assert vera.ask("GET", f"/{repository}/resolve/{pushed[-1]}/a.txt").getvalue() == b"21"


def test_a_stale_parent_is_refused_and_changes_nothing(vera: Pusher, repository: str) -> None:
    first = vera.commit(repository, file("a.txt", "1")).json()["commitOid"]
    second = vera.commit(repository, file("b.txt", "2"), parent=first)

    stale = vera.commit(repository, file("c.txt", "3"), parent=first)

    assert (second.status_code, stale.status_code) == (200, 412)
    assert vera.files(repository) == ["a.txt", "b.txt"]


def test_what_was_submitted_is_left_alone_by_a_later_commit(vera: Pusher) -> None:
    release = scenarios.draft_release(vera.user)
    publishing.submit(user=vera.user, release=release)

    assert vera.commit("vera/net", file("notes.txt", "late")).status_code == 200

    assert sorted(release.artifacts.values_list("path", flat=True)) == ["README.md", "config.json", "model.safetensors"]
    assert Release.objects.get(version="1.1").artifacts.count() == 4


@pytest.mark.parametrize("scope", ["models:read", ""])
def test_neither_a_reading_token_nor_none_can_write(vera: Pusher, repository: str, scope: str) -> None:
    weak = pusher("vera", scope) if scope else Pusher(vera.user, "")
    status = 403 if scope else 401

    assert weak.commit(repository, file("a.txt", "1")).status_code == status
    assert weak.ask("POST", f"/api/models/{repository}/preupload/main", {"files": []}).status_code == status
    assert weak.ask("POST", "/api/repos/create", {"name": "other"}).status_code == status
    assert not Artifact.objects.exists()


def test_a_stranger_cannot_write(vera: Pusher, repository: str) -> None:
    scenarios.published_release(vera.user, name="sold")
    stranger = pusher("sam")

    for name, status in (("vera/sold", 403), (repository, 404)):
        for answer in (
            stranger.commit(name, file("a.txt", "1")),
            stranger.ask("POST", f"/api/models/{name}/preupload/main", {"files": []}),
            stranger.ask("POST", f"/api/models/{name}/branch/2.0", {}),
            stranger.ask("POST", f"/api/models/{name}/tag/main", {"tag": "9"}),
        ):
            assert answer.status_code == status, answer.content
    assert Release.objects.filter(listing__name="sold").count() == 1


@pytest.mark.parametrize(
    "path", ["../a.txt", "/a.txt", "a//b.txt", "a/../b.txt", "a\\b.txt", "a\0.txt", "", "./a.txt", "x" * 300]
)
def test_bad_paths_are_refused(vera: Pusher, repository: str, path: str) -> None:
    committed = vera.commit(repository, file("fine.txt", "1"), file(path, "2"))
    asked = vera.ask("POST", f"/api/models/{repository}/preupload/main", {"files": [{"path": path, "size": 1}]})
    inside_git = vera.commit(repository, file("fine.txt", "1"), file("a/.git/config", "2"))

    assert [answer.status_code for answer in (committed, asked, inside_git)] == [400, 400, 400]
    assert vera.files(repository) == []


@pytest.mark.parametrize("path", ["model.bin", "model.pt", "sub/x.pkl", "run.py"])
def test_pickles_and_programs_are_left_out_and_refused_in_a_commit(vera: Pusher, repository: str, path: str) -> None:
    asked = {"files": [{"path": path, "size": 9}, {"path": "a.txt", "size": 9}, {"path": ".gitattributes", "size": 1}]}

    told = vera.ask("POST", f"/api/models/{repository}/preupload/main", asked)
    forced = vera.commit(repository, file("a.txt", "1"), file(path, "cposix"))

    assert [row["shouldIgnore"] for row in told.json()["files"]] == [True, False, True]
    assert path in told["X-HF-Warning"].partition(";")[2]
    assert forced.status_code == 400
    assert vera.files(repository) == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        '{"key": "file", "value": {"path": "a.txt", "content": ""}}',
        '{"key": "header", "value": {}}\n[]',
        '{"key": "header", "value": {"parentCommit": "x"}}',
        '{"key": "header", "value": {}}\n{"key": "link", "value": {"path": "a.txt"}}',
        '{"key": "header", "value": {}}\n{"key": "file", "value": {"path": "a.txt", "content": "%%%"}}',
        '{"key": "header", "value": {}}\n{"key": "file", "value": {"path": "a.txt", "content": 5}}',
        '{"key": "header", "value": {}}\n{"key": "lfsFile", "value": {"path": "a.txt", "oid": "../../x"}}',
        '{"key": "header", "value": {}}\n{"key": "file", "value": ' + "[" * 5000,
    ],
)
def test_a_commit_that_cannot_be_read_is_refused_whole(vera: Pusher, repository: str, body: str) -> None:
    answer = vera.ask("POST", f"/api/models/{repository}/commit/main", body, "application/x-ndjson")

    assert answer.status_code == 400
    assert vera.files(repository) == []


def test_a_line_that_does_not_end_is_not_held_in_memory(vera: Pusher, repository: str) -> None:
    body = b'{"key": "header", "value": {"summary": "' + b"x" * (9 * 2**20)

    assert vera.ask("POST", f"/api/models/{repository}/commit/main", body, "application/x-ndjson").status_code == 413


def test_a_known_digest_is_no_key_to_anothers_bytes(vera: Pusher, repository: str) -> None:
    treasure = scenarios.published_release(scenarios.person("paula"), name="treasure")
    weights = treasure.artifacts.get(path="model.safetensors")
    assert storage.exists(weights.sha256)

    theft = vera.commit(repository, pointer("model.safetensors", weights.sha256, weights.bytes))

    assert theft.status_code == 400
    assert vera.files(repository) == []


def test_what_the_repository_has_may_be_named_by_its_digest(vera: Pusher) -> None:
    release = scenarios.published_release(vera.user)
    weights = release.artifacts.get(path="model.safetensors")

    copied = vera.commit("vera/net", pointer("copy.safetensors", weights.sha256, weights.bytes))
    lied = vera.commit("vera/net", pointer("x.safetensors", weights.sha256, weights.bytes + 1))

    assert (copied.status_code, lied.status_code) == (200, 400)


def test_a_file_may_be_empty(vera: Pusher, repository: str) -> None:
    assert vera.commit(repository, file("empty.txt", "")).status_code == 200

    head = vera.ask("HEAD", f"/{repository}/resolve/main/empty.txt")
    asked = {"files": [{"path": "empty.txt", "size": 0}]}
    told = vera.ask("POST", f"/api/models/{repository}/preupload/main", asked).json()["files"][0]
    assert vera.ask("GET", f"/{repository}/resolve/main/empty.txt").getvalue() == b""
    assert (head["X-Linked-Size"], told["shouldIgnore"]) == ("0", False)
    assert told["oid"] == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git's name for nothing


# Branches, tags and what is not offered


def test_a_branch_is_a_draft_of_its_own(vera: Pusher) -> None:
    scenarios.published_release(vera.user)

    made = vera.ask("POST", "/api/models/vera/net/branch/2.0", {})
    again = vera.ask("POST", "/api/models/vera/net/branch/2.0", {})
    bad = vera.ask("POST", "/api/models/vera/net/branch/a%20b", {})
    unknown = vera.ask("POST", "/api/models/vera/net/branch/3.0", {"startingPoint": "7.0"})
    done = vera.commit("vera/net", file("notes.txt", "2"), revision="2.0")

    assert (made.status_code, again.status_code, bad.status_code, done.status_code) == (200, 409, 400, 200)
    assert (unknown.status_code, unknown["X-Error-Code"]) == (404, "RevisionNotFound")
    assert "notes.txt" in vera.files("vera/net", "2.0")
    assert vera.ask("DELETE", "/api/models/vera/net/branch/main").status_code == 403


def test_an_earlier_revision_is_branched_and_not_tagged(vera: Pusher, repository: str) -> None:
    first = vera.commit(repository, file("config.json", CONFIG), file("a.txt", "1")).json()["commitOid"]
    vera.commit(repository, file("a.txt", "2"))

    tagged = vera.ask("POST", f"/api/models/{repository}/tag/{first}", {"tag": "3.0"})
    branched = vera.ask("POST", f"/api/models/{repository}/branch/2.0", {"startingPoint": first})

    assert (tagged.status_code, branched.status_code) == (400, 200)
    assert vera.ask("GET", f"/{repository}/resolve/2.0/a.txt").getvalue() == b"1"
    assert vera.ask("GET", f"/{repository}/resolve/1.0/a.txt").getvalue() == b"2"


def test_a_tag_submits_the_draft_under_its_version_to_be_published(vera: Pusher, repository: str) -> None:
    weights = file("model.safetensors", "weights")
    early = vera.ask("POST", f"/api/models/{repository}/tag/main", {"tag": "0.9"})
    vera.commit(repository, file("config.json", CONFIG), file("README.md", CARD), weights)

    tagged = vera.ask("POST", f"/api/models/{repository}/tag/main", {"tag": "0.9", "message": "first"})
    release = Release.objects.get()
    assert (early.status_code, tagged.status_code) == (400, 200)
    assert (release.version, release.status) == ("0.9", "verifying")
    scenarios.verify(vera.user, release)

    release.refresh_from_db()
    assert release.status == "published"
    assert pusher("bob").files(repository) == ["README.md", "config.json", "model.safetensors"]
    assert vera.ask("POST", f"/api/models/{repository}/tag/main", {"tag": "1.0"}).status_code == 409
    kept = vera.ask("DELETE", f"/api/models/{repository}/tag/0.9")
    assert (kept.status_code, "/vendor/" in kept["X-Error-Message"]) == (403, True)


def test_a_config_that_names_no_architecture_is_told_before_the_verification(vera: Pusher, repository: str) -> None:
    vera.commit(repository, file("config.json", "{}"), file("README.md", CARD), file("model.safetensors", "x"))

    early = vera.ask("POST", f"/api/models/{repository}/tag/main", {"tag": "1.0"})
    vera.commit(repository, file("config.json", '{"architectures": ["ViTForImageClassification"]}'))
    tagged = vera.ask("POST", f"/api/models/{repository}/tag/main", {"tag": "1.0"})

    assert (early.status_code, "architecture" in early["X-Error-Message"], tagged.status_code) == (400, True, 200)
    listing = Listing.objects.get()
    assert (listing.framework, listing.task) == ("transformers", "image-classification")


def test_what_was_pushed_is_finished_on_its_pages(vera: Pusher, repository: str) -> None:
    told = vera.commit(repository, file("a.txt", "1")).json()["commitUrl"]
    browser = Client()
    browser.force_login(vera.user)

    assert browser.get(told)["Location"] == "/vendor/vera/net/"
    assert Client().get(told).status_code == 404
    for address in ("vendor_listing", "vendor_release"):
        parts_of_it = [*repository.split("/"), *(["1.0"] if address == "vendor_release" else [])]
        page = browser.get(reverse(address, args=parts_of_it))
        assert page.status_code == 200
    assert "a.txt" in page.content.decode()


@pytest.mark.parametrize("mended", ["by a commit", "on the page"])
def test_the_wish_to_publish_ends_with_the_submission_that_was_refused(
    vera: Pusher, repository: str, mended: str
) -> None:
    weights = file("model.safetensors", "weights")
    vera.commit(repository, file("config.json", CONFIG), file("README.md", CARD), weights)
    vera.ask("POST", f"/api/models/{repository}/tag/main", {"tag": "1.0"})
    release = Release.objects.get()
    problem = {"code": "weights", "message": "No.", "items": []}
    publishing.record_verification(
        release_id=release.pk, result={"status": "rejected", "report": {"problems": [problem]}}, golden=None
    )

    release.refresh_from_db()
    if mended == "by a commit":
        vera.commit(repository, file("model.safetensors", "better"))
    else:
        blob = storage.put(io.BytesIO(b"better"), max_bytes=10)
        publishing.attach_artifact(user=vera.user, release=release, path="model.safetensors", blob=blob)
    release.refresh_from_db()
    scenarios.verify(vera.user, release)

    assert release.status == "ready"


def test_a_tag_is_of_the_files_that_were_seen(vera: Pusher, repository: str) -> None:
    weights = file("model.safetensors", "weights")
    vera.commit(repository, file("config.json", CONFIG), file("README.md", CARD), weights)
    release = Release.objects.get()
    seen = commits.revision_of(release)
    vera.commit(repository, file("model.safetensors", "a colleague's"))

    with pytest.raises(Conflict) as caught:
        drafts.release_as(user=vera.user, release=release, revision=seen, version="1.0", now=timezone.now())

    release.refresh_from_db()
    assert (caught.value.code, release.status) == ("stale_parent", "draft")


@pytest.mark.parametrize(
    "line",
    [
        file("config.json", '{"architecture": "x", "library": ["timm"]}'),
        file("config.json", '{"architecture": "x\\u0000"}'),
        file("config.json", '{"architecture": "\\ud800"}'),
        file("README.md", "---\nlibrary_name: [timm]\n---\n"),
        file("README.md", "---\nlicense: !!bool maybe\n---\n"),
    ],
)
def test_whatever_a_card_or_a_summary_says_the_files_are_taken(vera: Pusher, repository: str, line: Any) -> None:
    header = {"key": "header", "value": {"summary": "A\0\ud800", "description": "\ud800"}}
    body = "\n".join(json.dumps(part) for part in (header, line))

    made = vera.ask("POST", f"/api/models/{repository}/commit/main", body, "application/x-ndjson")

    assert made.status_code == 200, made.content
    assert vera.files(repository) == [line["value"]["path"]]
    assert Commit.objects.get().title == "A\ufffd?"
    assert Listing.objects.get().architecture in {"", "x"}


def test_what_is_quarantined_is_not_offered_again_under_another_version(vera: Pusher) -> None:
    stopped = scenarios.published_release(vera.user)
    root = scenarios.person("root")
    User.objects.filter(pk=root.pk).update(is_staff=True)
    root.refresh_from_db()
    branched = vera.ask("POST", "/api/models/vera/net/branch/1.1", {})
    quarantine.quarantine(user=root, release=stopped, reason="Its data were stolen", now=timezone.now())

    tagged = vera.ask("POST", "/api/models/vera/net/tag/1.1", {"tag": "1.1"})
    again = vera.ask("POST", "/api/models/vera/net/branch/1.2", {"startingPoint": "1.0"})

    assert (branched.status_code, tagged.status_code, again.status_code) == (200, 409, 409)
    assert "quarantined" in tagged["X-Error-Message"]
    quarantine.lift(user=root, release=Release.objects.get(pk=stopped.pk), now=timezone.now())
    assert vera.ask("POST", "/api/models/vera/net/tag/1.1", {"tag": "1.1"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("POST", "/api/models/vera/net/discussions", 501),
        ("PUT", "/api/models/vera/net/settings", 501),
        ("POST", "/api/repos/move", 501),
        ("POST", "/api/models/vera/net/super-squash/main", 403),
        ("GET", "/api/models/vera/net/lfs-files", 403),
        ("POST", "/api/models/vera/net/preupload/main?create_pr=1", 501),
        ("POST", "/api/models/vera/net/commit/main?create_pr=1", 501),
    ],
)
@pytest.mark.usefixtures("repository")
def test_what_is_not_offered_says_what_to_do(vera: Pusher, method: str, address: str, status: int) -> None:
    answer = vera.ask(method, address, {})

    assert answer.status_code == status
    assert len(answer["X-Error-Message"]) > 20


def test_a_card_is_looked_at_before_anything_is_sent() -> None:
    def judged(content: str) -> tuple[int, int, int]:
        answer = Client().post(
            "/api/validate-yaml", {"content": content, "repoType": "model"}, content_type="application/json"
        )
        return answer.status_code, len(answer.json()["errors"]), len(answer.json()["warnings"])

    assert judged(CARD) == (200, 0, 0)
    assert judged("# no license") == (200, 0, 1)
    assert judged("---\nlicense: my-own\n---\n") == (200, 0, 1)
    assert judged("---\na: &x [1]\nb: *x\n---\n") == (400, 1, 0)
    assert judged("x" * 70_000) == (400, 1, 0)

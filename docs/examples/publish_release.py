"""Publishes a folder as a release, from a vendor's CI: `python publish_release.py FOLDER NAMESPACE/NAME VERSION`.

Reads MARKETPLACE_URL and MARKETPLACE_TOKEN (scope models:write). The folder holds config.json, model.safetensors and
README.md. Safe to run again: what is there already is left or replaced, and nothing is published twice. Needs `requests`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import requests

PIECE_BYTES = 8 * 2**20
POLL_SECONDS = 2
FINAL = {"ready", "rejected", "published", "yanked"}


class Marketplace:
    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, *, allow: tuple[str, ...] = (), **given: Any) -> Any:
        """Returns the answer's JSON. A refusal whose code is in `allow` is no failure."""
        answer = self.session.request(method, f"{self.url}/api/v1/{path}", timeout=600, **given)
        document = answer.json() if answer.content else {}
        if not answer.ok and document.get("code") not in allow:
            sys.exit(f"{method} {path}: {answer.status_code} {document.get('code')}: {document.get('detail')}")
        return document

    def upload(self, path: Path) -> str:
        """Sends a file in pieces (tus 1.0.0) and returns the upload's id."""
        with path.open("rb") as file:
            told = {"filename": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in told.items())
        tus = {"Tus-Resumable": "1.0.0"}
        begin = {**tus, "Upload-Length": str(path.stat().st_size), "Upload-Metadata": metadata}
        answer = self.session.post(f"{self.url}/api/v1/uploads/", headers=begin, timeout=60)
        answer.raise_for_status()
        place, offset = answer.headers["Location"], 0
        with path.open("rb") as file:
            while offset < path.stat().st_size:
                file.seek(offset)
                headers = {**tus, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
                try:
                    answer = self.session.patch(place, data=file.read(PIECE_BYTES), headers=headers, timeout=600)
                    answer.raise_for_status()
                except requests.ConnectionError:  # ask how far it came, and go on from there
                    time.sleep(POLL_SECONDS)
                    answer = self.session.head(place, headers=tus, timeout=60)
                offset = int(answer.headers["Upload-Offset"])
        return place.rstrip("/").split("/")[-1]


def publish(market: Marketplace, folder: Path, listing: str, version: str, options: argparse.Namespace) -> str:
    namespace, _, name = listing.partition("/")
    about = {
        "namespace": namespace,
        "name": name,
        "title": options.title or name,
        "task": options.task,
        "framework": options.framework,
        "architecture": options.architecture,
    }
    market.call("POST", "listings/", json=about, allow=("name_taken",))
    draft = {"version": version, "license": options.license}
    market.call("POST", f"listings/{listing}/releases/", json=draft, allow=("version_taken",))
    release = f"listings/{listing}/releases/{version}/"
    if market.call("GET", release)["status"] in ("draft", "rejected"):
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            upload = market.upload(path)
            market.call("PUT", f"{release}artifacts/{path.relative_to(folder).as_posix()}", params={"upload": upload})
        market.call("POST", f"{release}submit/")
    while (state := market.call("GET", release))["status"] not in FINAL:
        time.sleep(POLL_SECONDS)
    if state["status"] == "ready":
        state = market.call("POST", f"{release}publish/")
    if state["status"] != "published":
        sys.exit(f"{listing} {version} is {state['status']}: {state.get('verification')}")
    return f"{market.url}/models/{listing}/"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("listing", help="NAMESPACE/NAME")
    parser.add_argument("version")
    parser.add_argument("--architecture", required=True, help="as the framework calls it")
    parser.add_argument("--task", default="image-classification")
    parser.add_argument("--framework", default="timm")
    parser.add_argument("--license", default="apache-2.0", help="one of GET /api/v1/terms/")
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    market = Marketplace(os.environ["MARKETPLACE_URL"], os.environ["MARKETPLACE_TOKEN"])
    print(publish(market, options.folder, options.listing, options.version, options))


if __name__ == "__main__":
    main()

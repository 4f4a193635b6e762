"""The form of a review, which may cite one of the author's own runs."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from finetuning.forms import ReviewForm
from finetuning.services import evidence
from marketplace.accounts.models import Namespace
from marketplace.errors import DomainError
from marketplace.html import add_error
from models_catalog import policies, selectors
from models_catalog.models import Review
from models_catalog.services import reviews

MAX_RUNS = 50  # to choose from


@login_required
def write(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Writes or edits the review of oneself, or with `?author=` of an organisation that one writes for."""
    listing = get_object_or_404(selectors.listing_of(request.user, namespace, name))
    authors = list(Namespace.objects.writable_by(request.user).order_by("organization_id", "name"))
    author = _author(request, authors)
    review = Review.objects.filter(listing=listing, author=author).select_related("evaluation").first()
    runs = {str(run.uid): run for run in evidence.citable(listing, author=author)[:MAX_RUNS] if run.headline}
    cited = str(review.evaluation.run_uid) if review and review.evaluation else ""
    initial = {"rating": review.rating, "text": review.text, "run": cited} if review else {}
    form = ReviewForm(request.POST or None, runs=runs.values(), initial=initial)
    if request.method == "POST" and form.is_valid():
        fields = form.cleaned_data
        try:
            reviews.write(
                user=request.user,
                listing=listing,
                author=author,
                rating=fields["rating"],
                text=fields["text"],
                now=timezone.now(),
                evidence=evidence.evidence_of(runs[fields["run"]]) if fields["run"] else None,
            )
            return redirect("reviews", listing.namespace.name, listing.name)
        except DomainError as error:
            add_error(form, error)
    context = {
        "listing": listing,
        "authors": authors,
        "author": author,
        "review": review,
        "form": form,
        "allowed": policies.may_review(request.user, listing, author=author),
    }
    return render(request, "finetuning/review_form.html", context)


def _author(request: HttpRequest, authors: list[Namespace]) -> Namespace:
    """Returns the namespace that the address names, by default the person's own, or raises Http404."""
    wanted = request.GET.get("author", "").lower()
    matching = (item for item in authors if (item.name.lower() == wanted if wanted else item.user_id is not None))
    found = next(matching, None)
    if found is None:
        raise Http404
    return found

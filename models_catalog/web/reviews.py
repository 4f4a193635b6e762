"""Reviews and questions of a listing. Writing a review, which may cite a run, is finetuning's."""

from __future__ import annotations

import uuid

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from marketplace.errors import DomainError
from marketplace.html import add_error
from models_catalog import policies, selectors
from models_catalog.desks import reviews as desk
from models_catalog.forms import WordsForm
from models_catalog.models import Listing, Question, Review
from models_catalog.services import questions as question_services
from models_catalog.services import reviews as review_services

PAGE_SIZE = 20


def _listing(request: HttpRequest, namespace: str, name: str) -> Listing:
    return get_object_or_404(selectors.listing_of(request.user, namespace, name))


def reviews(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    row = _listing(request, namespace, name)
    context = {
        "listing": row,
        "page": Paginator(desk.reviews_of(row), PAGE_SIZE).get_page(request.GET.get("page")),
        "is_vendor": policies.is_vendor(request.user, row),
    }
    return render(request, "models_catalog/reviews.html", context)


@login_required
@require_POST
def review_answer(request: HttpRequest, pk: int) -> HttpResponse:
    listings = Listing.objects.managed_by(request.user)
    rows = Review.objects.shown().filter(listing__in=listings).select_related("listing__namespace", "author")
    row = get_object_or_404(rows, pk=pk)
    review_services.answer(user=request.user, review=row, text=request.POST.get("text", ""), now=timezone.now())
    return redirect("reviews", row.listing.namespace.name, row.listing.name)


def questions(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """The questions, and the form that asks one."""
    row = _listing(request, namespace, name)
    form = WordsForm(request.POST or None, label="Your question", most=question_services.MAX_TEXT)
    if request.method == "POST" and request.user.is_authenticated and form.is_valid():
        try:
            text = form.cleaned_data["text"]
            question_services.ask(user=request.user, listing=row, text=text, now=timezone.now())
            return redirect("questions", row.namespace.name, row.name)
        except DomainError as error:
            add_error(form, error)
    page = Paginator(desk.questions_of(row), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"listing": row, "page": page, "form": form}
    return render(request, "models_catalog/questions.html", context)


@login_required
@require_POST
def question_answer(request: HttpRequest, pk: int) -> HttpResponse:
    rows = Question.objects.shown().filter(listing__in=Listing.objects.visible_to(request.user))
    row = get_object_or_404(rows.select_related("listing__namespace", "asked_by"), pk=pk)
    question_services.answer(user=request.user, question=row, text=request.POST.get("text", ""), now=timezone.now())
    return redirect("questions", row.listing.namespace.name, row.listing.name)


def cited_evaluation(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    """The public parts of a measurement that a review cites."""
    row = get_object_or_404(desk.cited_evaluations(request.user), uid=uid)
    return render(request, "models_catalog/cited_evaluation.html", {"evaluation": row, "listing": row.release.listing})

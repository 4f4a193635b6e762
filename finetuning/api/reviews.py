"""Reviews over the API; here because a review may cite a run."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from finetuning.services import evidence
from marketplace.accounts.services import people
from marketplace.api import View
from marketplace.inputs import Input
from models_catalog.api.community_shapes import ReviewOutput
from models_catalog.api.views import find_listing, namespace_named
from models_catalog.desks.reviews import reviews_of
from models_catalog.models.reviews import HIGHEST, LOWEST
from models_catalog.services import reviews


class ReviewInput(Input):
    rating = serializers.IntegerField(min_value=LOWEST, max_value=HIGHEST)
    text = serializers.CharField(max_length=reviews.MAX_TEXT)
    author = serializers.CharField(max_length=96, required=False, help_text="A namespace you write for; default: you")
    run = serializers.UUIDField(required=False, help_text="A finished run of the author's on this model, to cite")


class ReviewsView(View):
    read_scope, write_scope = "models:read", "reviews:write"
    public_read = True

    @extend_schema(summary="Reviews of a listing", responses=ReviewOutput(many=True))
    def get(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        return self.paginated(reviews_of(listing).order_by(), ReviewOutput)

    @extend_schema(summary="Write the author's review, or edit it", request=ReviewInput, responses={201: ReviewOutput})
    def post(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        given = ReviewInput(data=request.data)
        given.is_valid(raise_exception=True)
        fields: dict[str, Any] = dict(given.validated_data)
        if "author" in fields:
            author = namespace_named(fields["author"], field="author")
        else:
            author = people.namespace_of(request.user)
        run = None
        if "run" in fields:
            run = get_object_or_404(evidence.citable(listing, author=author), uid=fields["run"])
        review = reviews.write(
            user=request.user,
            listing=listing,
            author=author,
            rating=fields["rating"],
            text=fields["text"],
            evidence=evidence.evidence_of(run) if run else None,
            now=timezone.now(),
        )
        return Response(ReviewOutput(reviews_of(listing).get(pk=review.pk)).data, status=201)

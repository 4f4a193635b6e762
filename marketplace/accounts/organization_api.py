"""Organisations over the API: those that the caller is a member of, and who else is."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Membership, Namespace, Organization, Role
from marketplace.accounts.models.people import NAME_HELP
from marketplace.accounts.services import people
from marketplace.api import View, checked
from marketplace.inputs import Input
from marketplace.preconditions import tag_of, tagged, unchanged


class OrganizationInput(Input):
    name = serializers.CharField(max_length=96, help_text=f"The first half of its models' names. {NAME_HELP}")
    display_name = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")


class MemberInput(Input):
    role = serializers.ChoiceField(choices=Role.choices)


class MemberOutput(serializers.ModelSerializer[Membership]):
    username = serializers.CharField(source="user.username")

    class Meta:
        model = Membership
        fields = ["username", "role"]


class OrganizationOutput(serializers.ModelSerializer[Namespace]):
    display_name = serializers.CharField(source="organization.display_name")
    role = serializers.SerializerMethodField(help_text="Yours")
    members = serializers.SerializerMethodField()

    class Meta:
        model = Namespace
        fields = ["name", "display_name", "role", "members", "created_at"]

    @extend_schema_field(serializers.ChoiceField(choices=Role.choices))
    def get_role(self, namespace: Namespace) -> str:
        user = self.context["request"].user
        return next(member.role for member in _members(namespace) if member.user_id == user.pk)

    @extend_schema_field(MemberOutput(many=True))
    def get_members(self, namespace: Namespace) -> Any:
        return MemberOutput(_members(namespace), many=True).data


def _members(namespace: Namespace) -> list[Membership]:
    assert namespace.organization is not None  # noqa: S101 - of the queries below
    return sorted(namespace.organization.memberships.all(), key=lambda member: member.user.username)


class OrganizationView(View):
    read_scope = "organizations:read"
    write_scope = "organizations:write"

    def rows(self) -> Any:
        mine = Namespace.objects.of(self.request.user).filter(organization__isnull=False)
        return mine.select_related("organization").prefetch_related("organization__memberships__user")

    def found(self, namespace: str) -> Namespace:
        row: Namespace = get_object_or_404(self.rows(), name__iexact=namespace)
        return row

    def told(self, namespace: str, *, status: int = 200) -> Response:
        row = self.found(namespace)
        document = OrganizationOutput(row, context={"request": self.request}).data
        return tagged(Response(document, status=status), _tag(row))


def _tag(namespace: Namespace) -> str:
    assert namespace.organization is not None  # noqa: S101 - as above
    return tag_of(namespace.organization, [(member.user.username, member.role) for member in _members(namespace)])


class Organizations(OrganizationView):
    @extend_schema(summary="The organisations that you are a member of", responses=OrganizationOutput(many=True))
    def get(self, _request: Request) -> Response:
        return self.paginated(self.rows(), OrganizationOutput)

    @extend_schema(
        summary="Create an organisation; you are its owner",
        request=OrganizationInput,
        responses={201: OrganizationOutput},
    )
    def post(self, request: Request) -> Response:
        fields = checked(OrganizationInput(data=request.data))
        namespace = people.create_organization(owner=self.request.user, **fields)
        return self.told(namespace.name, status=201)


class OneOrganization(OrganizationView):
    @extend_schema(summary="An organisation, its members and their roles", responses=OrganizationOutput)
    def get(self, _request: Request, namespace: str) -> Response:
        return self.told(namespace)


class Member(OrganizationView):
    tagged = ("PUT", "DELETE")

    @extend_schema(summary="Add a member, or change their role", request=MemberInput, responses=OrganizationOutput)
    def put(self, request: Request, namespace: str, username: str) -> Response:
        fields = checked(MemberInput(data=request.data))
        return self._set(request, namespace, username, Role(fields["role"]))

    @extend_schema(
        summary="Remove a member, or leave; who has left is told no more",
        responses={200: OrganizationOutput, 204: None},
    )
    def delete(self, request: Request, namespace: str, username: str) -> Response:
        return self._set(request, namespace, username, None)

    def _set(self, request: Request, namespace: str, username: str, role: Role | None) -> Response:
        row = self.found(namespace)
        with unchanged(request, lock=lambda: self._locked(row), tag=_tag):
            people.set_role(actor=self.request.user, namespace=row, username=username, role=role)
        if role is None and username.lower() == request.user.username.lower():  # who has left sees it no more
            return Response(status=204)
        return self.told(namespace)

    def _locked(self, row: Namespace) -> Namespace | None:
        Organization.objects.select_for_update().filter(namespace=row).first()
        return self.rows().filter(pk=row.pk).first()  # type: ignore[no-any-return]

"""Mounted at the root: these addresses are the clients' own."""

from django.urls import path, re_path

from models_catalog.hub import access, lfs, pages, repos, views, writing, xet

_MODEL = r"^api/models/(?P<namespace>[^/]+)/(?P<name>[^/]+)"

reading = [
    path("api/whoami-v2", views.WhoAmI.as_view(), name="hub_whoami"),
    path("api/agent-harnesses", views.Harnesses.as_view(), name="hub_harnesses"),
    path("api/models", views.Models.as_view(), name="hub_models"),
    re_path(rf"{_MODEL}$", views.Model.as_view(), name="hub_model"),
    re_path(rf"{_MODEL}/revision/(?P<revision>.+)$", views.Model.as_view(), name="hub_revision"),
    re_path(rf"{_MODEL}/tree/(?P<rest>.+)$", views.Tree.as_view(), name="hub_tree"),
    re_path(rf"{_MODEL}/paths-info/(?P<rest>.+)$", views.Paths.as_view(), name="hub_paths"),
    re_path(rf"{_MODEL}/refs$", views.References.as_view(), name="hub_refs"),
    re_path(rf"{_MODEL}/commits/(?P<rest>.+)$", views.Commits.as_view(), name="hub_commits"),
    re_path(rf"{_MODEL}/auth-check(?:/(?P<right>write))?$", views.AuthCheck.as_view(), name="hub_auth_check"),
    re_path(
        r"^(?P<namespace>[^/]+)/(?P<name>[^/]+)/resolve/(?P<rest>.+)$", views.Resolve.as_view(), name="hub_resolve"
    ),
]
commits = [
    path("api/validate-yaml", writing.ValidateYaml.as_view(), name="hub_validate_yaml"),
    re_path(rf"{_MODEL}/preupload/(?P<revision>.+)$", writing.Preupload.as_view(), name="hub_preupload"),
    re_path(rf"{_MODEL}/commit/(?P<revision>.+)$", writing.Commit.as_view(), name="hub_commit"),
]
repositories = [
    path("api/repos/create", repos.Create.as_view(), name="hub_create"),
    path("api/repos/delete", repos.Delete.as_view(), name="hub_delete"),
    path("api/repos/move", repos.Move.as_view(), name="hub_move"),
    re_path(rf"{_MODEL}/branch/(?P<branch>.+)$", repos.Branch.as_view(), name="hub_branch"),
    re_path(rf"{_MODEL}/tag/(?P<tag>.+)$", repos.Tag.as_view(), name="hub_tag"),
    re_path(rf"{_MODEL}/settings$", repos.Settings.as_view(), name="hub_settings"),
    re_path(rf"{_MODEL}/discussions(?:/.*)?$", repos.PullRequests.as_view(), name="hub_discussions"),
    re_path(rf"{_MODEL}/(?:super-squash|lfs-files)(?:/.*)?$", repos.History.as_view(), name="hub_history"),
]
_REQUESTS = rf"{_MODEL}/user-access-request"
gates = [
    re_path(rf"{_REQUESTS}/(?P<status>pending|accepted|rejected)$", access.Requests.as_view(), name="hub_requests"),
    re_path(rf"{_REQUESTS}/handle$", access.Decision.as_view(), name="hub_request_handle"),
    re_path(rf"{_REQUESTS}/grant$", access.Approval.as_view(), name="hub_request_grant"),
    re_path(r"^(?P<namespace>[^/]+)/(?P<name>[^/]+)/ask-access$", access.Ask.as_view(), name="hub_ask_access"),
]
_LFS = r"^(?P<namespace>[^/]+)/(?P<name>[^/]+)\.git/info/lfs/objects"
large_files = [
    re_path(rf"{_LFS}/batch$", lfs.Batch.as_view(), name="hub_lfs_batch"),
    re_path(rf"{_LFS}/verify$", lfs.Verify.as_view(), name="hub_lfs_verify"),
    path("api/lfs/<str:token>", lfs.Object.as_view(), name="hub_lfs_object"),
    path("api/lfs/<str:token>/<int:number>", lfs.Part.as_view(), name="hub_lfs_part"),
    re_path(rf"{_MODEL}/xet-write-token/(?P<revision>.+)$", xet.WriteToken.as_view(), name="hub_xet_write_token"),
    path("api/xet/<str:session>", xet.Nothing.as_view(), name="hub_xet"),
    path("api/xet/<str:session>/v1/xorbs/default/<str:name>", xet.Xorb.as_view(), name="hub_xorb"),
    path("api/xet/<str:session>/v1/shards", xet.Shard.as_view(), name="hub_shard"),
    path("api/xet/<str:session>/<path:rest>", xet.Nothing.as_view(), name="hub_xet_else"),
]
absent = [
    re_path(r"^api/(?:models|datasets|spaces|kernels)/[\s\S]*$", views.Absent.as_view()),
    re_path(r"^(?:datasets|spaces|kernels)/[^/]+/[^/]+/resolve/[\s\S]*$", views.Absent.as_view()),
]
printed = [
    re_path(r"^(?P<namespace>[^/]+)/(?P<name>[^/]+)/(?:commit|tree|blob)/.+$", pages.landing, name="hub_landing"),
]
urlpatterns = [*reading, *commits, *repositories, *gates, *large_files, *absent, *printed]

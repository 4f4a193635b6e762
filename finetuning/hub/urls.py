"""Mounted at the root, before the catalog's: what is left of the protocol's addresses is answered there."""

from django.urls import path, re_path

from finetuning.hub import views

_DATASET = r"^api/datasets/(?P<namespace>[^/]+)/(?P<name>[^/]+)"
_WRITES = "preupload|commit|branch|tag|settings|discussions|super-squash|lfs-files|xet-write-token"

urlpatterns = [
    path("api/datasets", views.Datasets.as_view(), name="hub_datasets"),
    re_path(rf"{_DATASET}$", views.Info.as_view(), name="hub_dataset"),
    re_path(rf"{_DATASET}/revision/(?P<revision>.+)$", views.Info.as_view(), name="hub_dataset_revision"),
    re_path(rf"{_DATASET}/tree/(?P<rest>.+)$", views.Tree.as_view(), name="hub_dataset_tree"),
    re_path(rf"{_DATASET}/paths-info/(?P<rest>.+)$", views.Paths.as_view(), name="hub_dataset_paths"),
    re_path(rf"{_DATASET}/refs$", views.References.as_view(), name="hub_dataset_refs"),
    re_path(rf"{_DATASET}/commits/(?P<rest>.+)$", views.Commits.as_view(), name="hub_dataset_commits"),
    re_path(rf"{_DATASET}/auth-check(?:/(?P<right>write))?$", views.AuthCheck.as_view(), name="hub_dataset_auth_check"),
    re_path(
        r"^datasets/(?P<namespace>[^/]+)/(?P<name>[^/]+)/resolve/(?P<rest>.+)$",
        views.Resolve.as_view(),
        name="hub_dataset_resolve",
    ),
    re_path(rf"{_DATASET}/(?:{_WRITES})(?:/.*)?$", views.Unwritten.as_view(), name="hub_dataset_writes"),
    re_path(
        r"^datasets/(?P<namespace>[^/]+)/(?P<name>[^/]+)\.git/info/lfs/.*$",
        views.Unwritten.as_view(),
        name="hub_dataset_lfs",
    ),
]

"""Addresses of the pages of datasets, runs and predictions."""

from django.urls import path

from finetuning.services import thumbnails
from finetuning.web import datasets, estimates, launch, playground, reviews, runs

urlpatterns = [
    path("datasets/", datasets.index, name="datasets"),
    path("datasets/new/", datasets.new, name="dataset_new"),
    path("datasets/examples/<slug:name>/", datasets.example, name="dataset_example"),
    path("datasets/<uuid:uid>/", datasets.detail, name="dataset"),
    path("datasets/<uuid:uid>/delete/", datasets.delete, name="dataset_delete"),
    path("datasets/<uuid:uid>/license/", datasets.license, name="dataset_license"),
    path("datasets/<uuid:uid>/recheck/", datasets.recheck, name="dataset_recheck"),
    path("datasets/<uuid:uid>/thumbnails/<int:number>.jpg", datasets.thumbnail, name="thumbnail"),
    path(
        "datasets/<uuid:uid>/thumbnails/<int:number>-overlay.jpg",
        datasets.thumbnail,
        {"suffix": thumbnails.OVERLAY},
        name="thumbnail_overlay",
    ),
    path("runs/", runs.index, name="runs"),
    path("runs/new/", launch.new, name="run_new"),
    path("runs/estimates/<uuid:uid>/", estimates.part, name="estimate"),
    path("estimates/", estimates.quality, name="estimates"),
    path("runs/<uuid:uid>/", runs.detail, name="run"),
    path("runs/<uuid:uid>/events/", runs.events, name="run_events"),
    path("runs/<uuid:uid>/evaluation/<path:name>", runs.evaluation_file, name="run_evaluation_file"),
    path("runs/<uuid:uid>/trials/", runs.searched, name="run_trials"),
    path("runs/<uuid:uid>/cancel/", runs.cancel, name="run_cancel"),
    path("runs/<uuid:uid>/pause/", runs.pause, name="run_pause"),
    path("runs/<uuid:uid>/resume/", runs.resume, name="run_resume"),
    path("runs/<uuid:uid>/try/", playground.result, name="run_try"),
    path("runs/<uuid:uid>/result.zip", runs.result, name="run_result"),
    path("runs/<uuid:uid>/publish/", runs.publish, name="run_publish"),
    path("models/<str:namespace>/<str:name>/review/", reviews.write, name="review_write"),
    path("models/<str:namespace>/<str:name>/try/", playground.page, name="try_model"),
    path("models/<str:namespace>/<str:name>/fetch/", playground.fetch_weights, name="fetch_weights"),
]

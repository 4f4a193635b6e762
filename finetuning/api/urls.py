"""Mounted at /api/v1/."""

from django.urls import path

from finetuning.api import reviews, views

urlpatterns = [
    path("datasets/", views.DatasetsView.as_view(), name="api_datasets"),
    path("datasets/<str:uid>/", views.DatasetView.as_view(), name="api_dataset"),
    path("datasets/<str:uid>/recheck/", views.DatasetRecheck.as_view(), name="api_dataset_recheck"),
    path("estimates/", views.EstimatesView.as_view(), name="api_estimates"),
    path("estimates/<str:uid>/", views.EstimateView.as_view(), name="api_estimate"),
    path("runs/", views.RunsView.as_view(), name="api_runs"),
    path("runs/<str:uid>/", views.RunView.as_view(), name="api_run"),
    path("runs/<str:uid>/events/", views.RunEvents.as_view(), name="api_run_events"),
    path("runs/<str:uid>/cancel/", views.RunCancel.as_view(), name="api_run_cancel"),
    path("runs/<str:uid>/pause/", views.RunPause.as_view(), name="api_run_pause"),
    path("runs/<str:uid>/resume/", views.RunResume.as_view(), name="api_run_resume"),
    path("runs/<str:uid>/receipt/", views.RunReceipt.as_view(), name="api_run_receipt"),
    path("runs/<str:uid>/predict/", views.RunPredict.as_view(), name="api_run_predict"),
    path("runs/<str:uid>/result.zip", views.RunResult.as_view(), name="api_run_result"),
    path("runs/<str:uid>/publish/", views.RunPublish.as_view(), name="api_run_publish"),
    path("listings/<str:namespace>/<str:name>/reviews/", reviews.ReviewsView.as_view(), name="api_reviews"),
    path("predict/<str:namespace>/<str:name>/", views.Predict.as_view(), name="api_predict"),
]

"""Mounted at /api/v1/."""

from django.urls import path

from marketplace.webhooks import api

_ONE = "webhooks/<uuid:uid>/"
_DELIVERY = _ONE + "deliveries/<uuid:message>/"

urlpatterns = [
    path("webhooks/", api.Webhooks.as_view(), name="api_webhooks"),
    path("webhooks/events/", api.Events.as_view(), name="api_webhook_events"),
    path(_ONE, api.OneWebhook.as_view(), name="api_webhook"),
    path(_ONE + "rotate/", api.Rotation.as_view(), name="api_webhook_rotate"),
    path(_ONE + "test/", api.Test.as_view(), name="api_webhook_test"),
    path(_ONE + "deliveries/", api.Deliveries.as_view(), name="api_webhook_deliveries"),
    path(_DELIVERY, api.OneDelivery.as_view(), name="api_webhook_delivery"),
    path(_DELIVERY + "replay/", api.Replay.as_view(), name="api_webhook_replay"),
]

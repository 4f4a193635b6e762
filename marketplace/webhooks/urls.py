"""Mounted at /account/webhooks/."""

from django.urls import path

from marketplace.webhooks import web

_ONE = "<uuid:uid>/"
_MESSAGE = _ONE + "messages/<uuid:message>/"

urlpatterns = [
    path("", web.webhooks, name="webhooks"),
    path(_ONE, web.webhook, name="webhook"),
    path(_ONE + "rotate/", web.rotate, name="webhook_rotate"),
    path(_ONE + "test/", web.test, name="webhook_test"),
    path(_ONE + "enable/", web.enable, name="webhook_enable"),
    path(_ONE + "disable/", web.disable, name="webhook_disable"),
    path(_ONE + "delete/", web.delete, name="webhook_delete"),
    path(_MESSAGE, web.message, name="webhook_message"),
    path(_MESSAGE + "replay/", web.replay, name="webhook_replay"),
]

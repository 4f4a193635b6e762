"""Mounted at /notifications/."""

from django.urls import path

from marketplace.accounts import inbox

urlpatterns = [
    path("", inbox.inbox, name="notifications"),
    path("read/", inbox.mark, name="notifications_read"),
    path("email/", inbox.email, name="notifications_email"),
    path("<int:pk>/", inbox.open_one, name="notification"),
    path("<int:pk>/read/", inbox.mark, name="notification_read"),
]

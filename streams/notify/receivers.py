"""From ``[[receivers]]`` to receivers, and from ``[notify]`` to a notifier."""

from collections.abc import Sequence
from typing import Any

from streams.config import Settings
from streams.notify.notification_log import NotificationLog
from streams.notify.notifier import Notifier
from streams.notify.pagerduty.receiver import PagerDutyReceiver
from streams.notify.receiver import Receiver
from streams.notify.retry_stage import Backoff
from streams.notify.slack.receiver import SlackReceiver
from streams.notify.webhook.receiver import WebhookReceiver

_TYPES = {"slack": SlackReceiver, "pagerduty": PagerDutyReceiver, "webhook": WebhookReceiver}


def build_receivers(settings: Settings) -> Sequence[Receiver]:
    """One receiver for each ``[[receivers]]`` table."""
    return tuple(_TYPES[config.type](config) for config in settings.receivers)


def build_notifier(settings: Settings, log: NotificationLog, **options: Any) -> Notifier:
    """A notifier as configured; ``options`` go to ``Notifier`` (clock, session_factory, on_delivered)."""
    notify = settings.notify
    return Notifier(
        build_receivers(settings),
        log,
        backoff=Backoff(notify.retry_min / 1000, notify.retry_max / 1000),
        queue_max=notify.queue_max,
        timeout_seconds=notify.timeout / 1000,
        proxy=notify.proxy.get_secret_value() if notify.proxy else None,
        **options,
    )

"""From the settings to receivers, and to a notifier with its rules."""

from collections.abc import Sequence
from typing import Any

from streams.agents.spend_series import SpendSeries
from streams.config import Settings
from streams.notify.destinations import destinations
from streams.notify.links import Links
from streams.notify.notification_log import NotificationLog
from streams.notify.notifier import Notifier
from streams.notify.receiver import Receiver
from streams.notify.retry_stage import Backoff
from streams.notify.route_stage import Router
from streams.web.chart import chart_url


def build_links(settings: Settings, series: SpendSeries) -> Links:
    """Where alerts lead: to the page that is configured, to charts and back to us, if we can be reached."""
    web, key = settings.web, settings.web.chart_key

    def chart(finding: dict) -> str:
        return chart_url(web.public_url, key.get_secret_value(), series.chart(finding))

    return Links(
        page=settings.notify.finding_url,
        chart=chart if web.public_url and key else lambda finding: "",
        interactive=bool(web.public_url and web.slack_signing_secret),
    )


def build_receivers(settings: Settings, links: Links | None = None) -> Sequence[Receiver]:
    """One receiver for each ``[[receivers]]`` table."""
    kinds = destinations()
    return tuple(kinds[config.type](config, links) for config in settings.receivers)


def build_notifier(settings: Settings, log: NotificationLog, *, links: Links | None = None, **options: Any) -> Notifier:
    """A notifier as configured; ``options`` go to ``Notifier`` (silences, clock, session_factory, on_delivered)."""
    notify = settings.notify
    receivers = build_receivers(settings, links)
    return Notifier(
        receivers,
        log,
        router=Router(receivers, settings.routes),
        inhibit=settings.inhibit,
        backoff=Backoff(notify.retry_min / 1000, notify.retry_max / 1000),
        queue_max=notify.queue_max,
        timeout_seconds=notify.timeout / 1000,
        proxy=notify.proxy.get_secret_value() if notify.proxy else None,
        **options,
    )

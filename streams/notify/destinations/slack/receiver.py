"""Slack: an incoming webhook, or a bot.

A webhook cannot change what it posted, so an update or a resolution is a message of its own, with the same id. A bot
posts an alert once and changes that message (``chat.update``); what people should notice also goes into its thread:
a finding more, a higher severity, the end. There is no dedup key: an answer that gets lost repeats its message.

Rates: some one message a second is allowed per channel, then 429 with Retry-After; of ``chat.update`` some fifty a
minute. People stand less: ``messages_per_minute``, half of them at once.
"""

import json
from collections.abc import Sequence

from streams.notify.destinations.slack import message
from streams.notify.destinations.slack.config import SlackConfig
from streams.notify.links import Links
from streams.notify.receiver import Delivered, Failed, Gone, Notification, Outcome, Rate, Receiver, Request, Retry

_LATER = ("ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout")
_GONE = ("message_not_found", "cant_update_message", "edit_window_closed")


class SlackReceiver(Receiver):
    Config = SlackConfig
    update_rates = (Rate(40 / 60, 10),)

    def __init__(self, config: SlackConfig, links: Links | None = None) -> None:
        super().__init__(config, links)
        self.in_place = config.token is not None
        self.digest_above = config.digest_above
        self.rates = (Rate(1.0, 1), Rate(config.messages_per_minute / 120, (config.messages_per_minute + 1) // 2))
        self._channel = config.channel
        self._url = (config.url or config.api_url).get_secret_value()
        self._token = config.token.get_secret_value() if config.token else ""

    def build(self, notification: Notification) -> Sequence[Request]:
        if not self.in_place:
            return [self._request("", message.posted(notification, self.links))]
        content = {"channel": self._channel, **message.kept(notification, self.links)}
        if not notification.ref:
            return [self._request("chat.postMessage", {**content, "unfurl_links": False})]
        channel, _, ts = notification.ref.partition("/")
        requests = [self._request("chat.update", {**content, "channel": channel, "ts": ts})]
        note = None if notification.quiet else message.reply(notification)
        if note is not None:
            requests.append(self._request("chat.postMessage", {"channel": channel, "thread_ts": ts, **note}))
        return requests

    def classify(self, status: int, body: str, retry_after_seconds: float | None = None) -> Outcome:
        # The Web API, and proxies that speak like it, refuse with status 200.
        if status == 200 and body.startswith("{"):
            try:
                answer = json.loads(body)
            except ValueError:
                answer = {}
            if answer.get("ok") is False:
                error = str(answer.get("error", "ok: false"))
                if error in _LATER:
                    return Retry(f"Slack answered {error}", retry_after_seconds)
                return (Gone if error in _GONE else Failed)(f"Slack answered {error}")
            if answer.get("ts") and answer.get("channel"):
                return Delivered(f"{answer['channel']}/{answer['ts']}")
        return super().classify(status, body, retry_after_seconds)

    def _request(self, method: str, content: dict) -> Request:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        url = f"{self._url.rstrip('/')}/{method}" if method else self._url
        return Request(url, body, headers)

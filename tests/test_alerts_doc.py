"""docs/alerts.md: its configurations run, its rules are the default ones, and its snippet checks our signature."""

import re
from pathlib import Path

import pytest

from streams.config import Settings
from streams.notify.destinations import destinations
from streams.notify.destinations.webhook import signature
from streams.notify.inhibit_stage import DEFAULT_RULES
from streams.notify.notification_log import MemoryNotificationLog
from streams.notify.receiver import Change, Notification
from streams.notify.receivers import build_links, build_notifier, build_receivers

TEXT = (Path(__file__).parent.parent / "docs" / "alerts.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
SECRETS = {name: f"https://example.com/{name}" for name in re.findall(r"\$\{(\w+)\}", TEXT)}


def settings(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tenfold.toml").write_text(block)
    return Settings.load(tmp_path / "tenfold.toml")


def test_the_configuration_runs(tmp_path, monkeypatch):
    from streams.agents.spend_series import SpendSeries
    from streams.alerts_command import sample

    loaded = settings(BLOCKS[0], tmp_path, monkeypatch)
    assert set(SECRETS.values()) <= set(loaded.secrets()), "a secret that no log line would be searched for"
    assert not [value for value in SECRETS.values() if value in repr(loaded)]
    links = build_links(loaded, SpendSeries())
    one = sample(1_763_996_400_000)
    told = Notification(one["id"], (Change(one, "opened"),), (one,), at_ms=1_763_996_400_000)
    receivers = build_receivers(loaded, links)
    assert {receiver.type for receiver in receivers} == set(destinations())
    assert links.interactive and links.chart(one).startswith("https://tenfold.example/charts/")
    bodies = [request.body.decode() for receiver in receivers for request in receiver.build(told)]
    assert len(bodies) == 4
    for secret in SECRETS.values():
        # PagerDuty's key belongs into the body; no other secret does.
        assert sum(secret in body for body in bodies) == (secret == SECRETS["PAGERDUTY_ROUTING_KEY"])
    assert all(f"finding={one['id']}" in body for body in bodies[:3])
    assert build_notifier(loaded, MemoryNotificationLog(), links=links).pending() == 0


def test_the_rules_are_the_default_ones(tmp_path, monkeypatch):
    assert settings(BLOCKS[1], tmp_path, monkeypatch).inhibit == DEFAULT_RULES


def test_the_snippet_checks_our_signature():
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    found: dict = {}
    exec(snippet, found)
    at = int(found["time"].time())
    headers = {"X-Tenfold-Timestamp": str(at), "X-Tenfold-Signature": signature("secret", at, b"{}")}
    assert found["is_from_tenfold"]("secret", headers, b"{}")
    assert not found["is_from_tenfold"]("secret", headers, b"{ }")
    assert not found["is_from_tenfold"]("other", headers, b"{}")

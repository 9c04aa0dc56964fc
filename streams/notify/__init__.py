"""Findings to people: route, dedupe, rate limit, retry, and a folder for each kind of destination.

``notifier.Notifier`` is what the alert agent uses; ``receivers.build_receivers`` makes its receivers.
"""

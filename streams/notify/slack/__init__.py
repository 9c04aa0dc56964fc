"""Slack: Block Kit messages to an incoming webhook."""

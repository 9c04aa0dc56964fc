"""Slack: Block Kit messages to an incoming webhook, or with a bot's token as one message that changes."""

from streams.notify.destinations.slack.receiver import SlackReceiver

RECEIVER = SlackReceiver

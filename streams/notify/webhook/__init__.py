"""Webhook: the finding itself, as JSON, to any HTTP endpoint."""

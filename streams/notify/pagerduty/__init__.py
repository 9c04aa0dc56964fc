"""PagerDuty: incidents over the Events API v2."""

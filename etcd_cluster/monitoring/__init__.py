"""Metrics for a team's Prometheus: where they are exposed, what scrapes them, alerts and a dashboard."""

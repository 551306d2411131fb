"""Backups: where they go, when they are made, and what is kept of them. The work on a machine is in member/scripts."""

"""Processes of this machine, and other machines over OpenSSH: log-in settings, keys, connections, the client."""

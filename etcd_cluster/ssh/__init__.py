"""Runs processes on this machine and, over OpenSSH, on others: log-in settings, keys, connections, the client."""

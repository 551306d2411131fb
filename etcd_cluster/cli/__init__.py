"""The command `etcd-cluster`: answers questions about the clusters of a stack, and looks after their backups.

`main.py` has the table of commands; each command is a module of its own.
"""

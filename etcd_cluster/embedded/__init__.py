"""Runs a Pulumi program in Python without the Pulumi CLI: `python -m etcd_cluster.embedded up`.

It works on the SDK's own resource-monitor interface, and knows commands and Python dynamic resources only. What it
keeps is in one file per stack, with every secret encrypted.
"""

"""Runs a Pulumi program in Python without the Pulumi CLI: `python -m embedded_engine up`.

It works on the SDK's own resource-monitor interface, and knows commands and Python dynamic resources only. What it
keeps is in one file per stack, with every secret encrypted.

It stands beside the package, in no wheel, for scripts/ and tests alone. It may import `etcd_cluster.ssh`, which
runs commands over SSH, `etcd_cluster.errors` and `etcd_cluster.state_folder`. Nothing in etcd_cluster may import it.
"""

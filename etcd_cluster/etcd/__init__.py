"""Holds what is known of etcd itself: its releases, the settings of its server, the hardware that it needs."""

"""What is known of etcd itself: its releases, the settings its server takes, the hardware it needs."""

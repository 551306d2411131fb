"""The lab: real systemd hosts, real ssh and real etcd binaries on one Linux machine."""

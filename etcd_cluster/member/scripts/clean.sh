# shellcheck shell=bash
# Goes on in a shell without the environment of the log-in, which reads the rest of this input: no proxy, no ETCDCTL_ variable, no
# library and no function of a host or an operator reaches etcd, or a call to it.
exec env -i LC_ALL=C PATH="$PATH:/usr/sbin:/sbin" bash -s -- "$@"

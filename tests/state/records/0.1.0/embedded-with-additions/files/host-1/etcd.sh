# etcd-cluster: 0583848ccd8a8b162d6c6556e27f97f5
export PATH="$PATH:/opt/etcd/bin"
export ETCDCTL_ENDPOINTS=https://10.77.0.11:2379
export ETCDCTL_CACERT=/etc/etcd/pki/ca.crt
export ETCDCTL_CERT=/etc/etcd/pki/server.crt
export ETCDCTL_KEY=/etc/etcd/pki/server.key
export NO_PROXY="${NO_PROXY:-${no_proxy:-}},"10.77.0.11
export no_proxy="$NO_PROXY"

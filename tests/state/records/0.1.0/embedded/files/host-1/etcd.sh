# etcd-cluster: b8f10b4393f806fb90efec15e51f1bad
export PATH="$PATH:/opt/etcd/bin"
export ETCDCTL_ENDPOINTS=https://10.77.0.11:2379
export ETCDCTL_CACERT=/etc/etcd/pki/ca.crt
export ETCDCTL_CERT=/etc/etcd/pki/server.crt
export ETCDCTL_KEY=/etc/etcd/pki/server.key
export NO_PROXY="${NO_PROXY:-${no_proxy:-}},"10.77.0.11
export no_proxy="$NO_PROXY"

# etcd-cluster: 91cf27b226172fe13b0f14c6c101f9ca
export PATH="$PATH:/opt/etcd/bin"
export ETCDCTL_ENDPOINTS=https://10.77.0.13:2379
export ETCDCTL_CACERT=/etc/etcd/pki/ca.crt
export ETCDCTL_CERT=/etc/etcd/pki/server.crt
export ETCDCTL_KEY=/etc/etcd/pki/server.key
export NO_PROXY="${NO_PROXY:-${no_proxy:-}},"10.77.0.13
export no_proxy="$NO_PROXY"

# etcd-cluster: ea8cfe2bfe85b7e6c66fe190f9225838
export PATH="$PATH:/opt/etcd/bin"
export ETCDCTL_ENDPOINTS=https://10.0.0.1:2379
export ETCDCTL_CACERT=/etc/etcd/pki/ca.crt
export ETCDCTL_CERT=/etc/etcd/pki/server.crt
export ETCDCTL_KEY=/etc/etcd/pki/server.key
export NO_PROXY="${NO_PROXY:-${no_proxy:-}},"10.0.0.1
export no_proxy="$NO_PROXY"

# etcd-cluster: 048e1f569d7468812b82ff74de48ab31
export PATH="$PATH:/opt/etcd/bin"
export ETCDCTL_ENDPOINTS=https://10.77.0.13:2379
export ETCDCTL_CACERT=/etc/etcd/pki/ca.crt
export ETCDCTL_CERT=/etc/etcd/pki/server.crt
export ETCDCTL_KEY=/etc/etcd/pki/server.key

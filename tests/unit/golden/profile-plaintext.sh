# etcd-cluster: etcd-cluster/prod/etcd
export PATH="$PATH:/opt/etcd/bin"
export ETCDCTL_ENDPOINTS=http://10.0.0.1:2379

#!/usr/bin/env bash
# What forming.py compares with: the same cluster, made by a short script as a good engineer writes it for one day.
# All hosts at once, certificates and configuration in one connection each; it ends once every member is healthy.
#
#   by_hand.sh SSH_CONFIG USER DEVICE MIRROR VERSION NAME=ADDRESS...
set -euo pipefail

ssh_config=$1 user=$2 device=$3 mirror=$4 version=$5
shift 5
work=$(mktemp -d)
trap 'close_connections; rm -rf "$work"' EXIT

# The first command to a host opens the connection, the next one uses it too.
on_host() { ssh -F "$ssh_config" -o ControlMaster=auto -o "ControlPath=$work/%h" -o ControlPersist=60 "$user@$1" "$2"; }
close_connections() {
  local socket
  for socket in "$work"/*; do
    [[ ! -S $socket ]] || ssh -F "$ssh_config" -o "ControlPath=$socket" -O exit unused 2>/dev/null || true
  done
}

create_ca() {
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=etcd CA' \
    -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign' \
    -keyout "$work/ca.key" -out "$work/ca.crt" 2>/dev/null
}

# issue_certificate FILE NAME USAGES [ALTERNATIVE_NAMES]
issue_certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1825 -subj "/CN=$2" \
    -CA "$work/ca.crt" -CAkey "$work/ca.key" -addext 'basicConstraints=critical,CA:FALSE' \
    -addext 'keyUsage=critical,digitalSignature' -addext "extendedKeyUsage=$3" ${4:+-addext "subjectAltName=$4"} \
    -keyout "$1.key" -out "$1.crt" 2>/dev/null
}

configuration() {
  cat <<END
name: $1
data-dir: /data/etcd/data
listen-client-urls: https://$2:2379,https://127.0.0.1:2379
advertise-client-urls: https://$2:2379
listen-peer-urls: https://$2:2380
initial-advertise-peer-urls: https://$2:2380
initial-cluster: $initial_cluster
initial-cluster-token: by-hand
initial-cluster-state: new
client-transport-security: {cert-file: /etc/etcd/server.crt, key-file: /etc/etcd/server.key, trusted-ca-file: /etc/etcd/ca.crt, client-cert-auth: true}
peer-transport-security: {cert-file: /etc/etcd/peer.crt, key-file: /etc/etcd/peer.key, trusted-ca-file: /etc/etcd/ca.crt, client-cert-auth: true}
END
}

unit() {
  cat <<'END'
[Unit]
Description=etcd
Wants=network-online.target
After=network-online.target
RequiresMountsFor=/data/etcd

[Service]
Type=notify
User=etcd
ExecStart=/usr/local/bin/etcd --config-file /etc/etcd/etcd.yaml
Restart=on-failure
TimeoutStartSec=infinity
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
END
}

mount_unit() {
  cat <<END
[Mount]
What=$device
Where=/data/etcd
Type=xfs
Options=noatime

[Install]
WantedBy=multi-user.target
END
}

# What runs on each host as root, beside its files.
install_member() {
  cat <<END
set -euo pipefail
name=etcd-v$version-linux-\$(dpkg --print-architecture)
curl -fsS --remote-name-all "$mirror/v$version/{\$name.tar.gz,SHA256SUMS}"
sha256sum --quiet --ignore-missing -c SHA256SUMS
tar -xzf "\$name.tar.gz" --no-same-owner --strip-components 1 -C /usr/local/bin --wildcards '*/etcd' '*/etcdctl' '*/etcdutl'
mkfs.xfs -q "$device"
useradd --system --no-create-home --shell /usr/sbin/nologin etcd
install -m 644 etcd.service data-etcd.mount /etc/systemd/system/
systemctl daemon-reload
systemctl enable --quiet --now data-etcd.mount
install -d -m 700 -o etcd -g etcd /data/etcd/data
install -d -m 755 /etc/etcd
install -m 644 etcd.yaml ca.crt server.crt peer.crt /etc/etcd/
install -m 400 -o etcd -g etcd server.key peer.key /etc/etcd/
systemctl enable --quiet --now etcd.service
END
}

# member NAME ADDRESS: its certificates and files, sent and installed.
member() {
  local folder=$work/files-$1 names="DNS:$1,DNS:localhost,IP:$2,IP:127.0.0.1,IP:::1"
  mkdir "$folder"
  cp "$work/ca.crt" "$folder/"
  issue_certificate "$folder/server" "$1" serverAuth,clientAuth "$names"
  issue_certificate "$folder/peer" "$1" serverAuth,clientAuth "$names"
  configuration "$1" "$2" >"$folder/etcd.yaml"
  unit >"$folder/etcd.service"
  mount_unit >"$folder/data-etcd.mount"
  install_member >"$folder/install.sh"
  # shellcheck disable=SC2016  # for the shell of the host
  tar -C "$folder" -c . | on_host "$2" 'sudo bash -ec '\''d=$(mktemp -d); trap "rm -rf $d" EXIT; cd $d; tar -x; bash install.sh'\'
}

# healthy ADDRESS: every member, asked from one host with the client's certificate.
healthy() {
  # shellcheck disable=SC2016
  tar -C "$work" -c ca.crt client.crt client.key | on_host "$1" \
    'set -e; d=$(mktemp -d /dev/shm/XXXXXX); trap "rm -rf $d" EXIT; cd $d; tar -x
     for try in $(seq 300); do
       timeout 15 etcdctl --endpoints '"$endpoints"' --cacert ca.crt --cert client.crt --key client.key endpoint health && exit
       sleep 0.1
     done >/dev/null 2>&1; exit 1'
}

initial_cluster="" endpoints=""
for host in "$@"; do
  initial_cluster+=${initial_cluster:+,}${host%%=*}=https://${host#*=}:2380
  endpoints+=${endpoints:+,}https://${host#*=}:2379
done

create_ca
processes=()
for host in "$@"; do
  member "${host%%=*}" "${host#*=}" &
  processes+=("$!")
done
issue_certificate "$work/client" client clientAuth
for process in "${processes[@]}"; do wait "$process"; done
healthy "${1#*=}"

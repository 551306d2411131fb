#!/usr/bin/env bash
# What rolling.py compares with: the same change, one member after the other, as a good engineer does it by hand on a good
# day. Followers first; the leader last, once it has handed over; each healthy before the next.
#
#   roll_by_hand.sh SSH_CONFIG USER setting KEY VALUE NAME=ADDRESS...
#   roll_by_hand.sh SSH_CONFIG USER stage VERSION MIRROR NAME=ADDRESS...     puts programs ready, on all hosts at once
#   roll_by_hand.sh SSH_CONFIG USER version VERSION NAME=ADDRESS...          to programs that are ready
set -euo pipefail

ssh_config=$1 user=$2 change=$3
shift 3
work=$(mktemp -d)
trap 'close_connections; rm -rf "$work"' EXIT

# on_host ADDRESS COMMAND: as root. The first command to a host opens the connection, the next one uses it too.
on_host() {
  ssh -F "$ssh_config" -o ControlMaster=auto -o "ControlPath=$work/%h" -o ControlPersist=60 "$user@$1" \
    "sudo bash -euo pipefail -c $(printf '%q' ". /etc/profile.d/etcd.sh; $2")"
}
close_connections() {
  local socket
  for socket in "$work"/*; do
    [[ ! -S $socket ]] || ssh -F "$ssh_config" -o "ControlPath=$socket" -O exit unused 2>/dev/null || true
  done
}

# on_all COMMAND: on every host at once.
on_all() {
  local address processes=() process
  for address in "${addresses[@]}"; do
    on_host "$address" "$1" &
    processes+=("$!")
  done
  for process in "${processes[@]}"; do wait "$process"; done
}

# The address of the leader's host; every host is asked, which also opens all connections.
find_leader() {
  # shellcheck disable=SC2016  # for the shell of the host
  on_all 'if curl -fsS http://127.0.0.1:2381/metrics | grep -x "etcd_server_is_leader 1" >/dev/null; then echo "$ETCDCTL_ENDPOINTS"; fi' |
    sed -E 's,.*//(.*):.*,\1,'
}

# restart ADDRESS: stop, swap, start, wait.
restart() {
  on_host "$1" "
    systemctl stop etcd-cluster
    $swap
    systemctl start etcd-cluster
    until etcdctl endpoint health >/dev/null 2>&1; do sleep 0.05; done"
}

snapshot() {
  on_host "$1" "
    cd /data/etcd
    etcdctl snapshot save before.db >/dev/null 2>&1
    /opt/etcd/versions/$version/etcdutl snapshot status before.db >/dev/null"
}

move_leader() {
  local id
  id=$(on_host "$2" 'etcdctl endpoint status --write-out json' | grep -o '"member_id":[0-9]*')
  on_host "$1" "etcdctl move-leader $(printf %x "${id#*:}") >/dev/null"
}

case $change in
  setting)
    swap="sed -i 's/^$1: .*/$1: $2/' /etc/etcd/etcd.yaml"
    shift 2
    ;;
  stage)
    version=$1 mirror=$2
    shift 2
    ;;
  version)
    version=$1
    swap="ln -sfn /opt/etcd/versions/$version /opt/etcd/bin.new; mv -T /opt/etcd/bin.new /opt/etcd/bin"
    shift
    ;;
esac
addresses=("${@#*=}")

if [[ $change == stage ]]; then
  on_all "
    cd /opt/etcd/versions
    [[ ! -d $version ]] || exit 0
    mkdir .stage && cd .stage
    name=etcd-v$version-linux-\$(dpkg --print-architecture)
    curl -fsS --remote-name-all '$mirror/v$version/{'\$name'.tar.gz,SHA256SUMS}'
    sha256sum --quiet --ignore-missing -c SHA256SUMS
    tar -xzf \$name.tar.gz --no-same-owner --strip-components 1 --wildcards '*/etcd' '*/etcdctl' '*/etcdutl'
    rm \$name.tar.gz SHA256SUMS
    cd .. && mv .stage $version"
  exit
fi

leader=$(find_leader)
if [[ $change == version ]]; then snapshot "$leader"; fi
successor=""
for address in "${addresses[@]}"; do
  [[ $address != "$leader" ]] || continue
  restart "$address"
  successor=$address
done
move_leader "$leader" "$successor"
restart "$leader"
on_host "$leader" 'etcdctl endpoint health --cluster >/dev/null 2>&1'

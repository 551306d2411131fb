# shellcheck shell=bash
# What IncusMachines does with Incus: bash -s -- STEP INSTANCE [KEY=VALUE...]. Every step may be run again.
set -euo pipefail
step=$1 instance=$2
shift 2
declare -A given=()
for pair in "$@"; do given[${pair%%=*}]=${pair#*=}; done

case $step in
  volume)
    incus storage volume show "${given[pool]}" "$instance-data" >/dev/null 2>&1 ||
      incus storage volume create "${given[pool]}" "$instance-data" --type=block size="${given[gib]}GiB"
    ;;
  machine)
    if ! incus info "$instance" >/dev/null 2>&1; then
      incus init "${given[image]}" "$instance" --vm \
        --config limits.cpu="${given[vcpus]}" --config limits.memory="${given[mib]}MiB" \
        --config cloud-init.user-data="#cloud-config
packages: [openssh-server]
users:
  - name: $OPERATOR
    sudo: ALL=(ALL) NOPASSWD:ALL
    ssh_authorized_keys: ['$PUBLIC_KEY']
"
      incus config device override "$instance" eth0 ipv4.address="${given[address]}"
      incus config device add "$instance" etcd disk pool="${given[pool]}" source="$instance-data"
    fi
    incus start "$instance" 2>/dev/null || true # it may run already
    # shellcheck disable=SC2016  # $0 is for the inner shell
    timeout 300 bash -c 'until incus exec "$0" -- true 2>/dev/null; do sleep 1; done' "$instance"
    timeout 600 incus exec "$instance" -- cloud-init status --wait
    ;;
  host-key) incus exec "$instance" -- cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub ;;
  remove) incus delete --force "$instance" ;;
esac

# shellcheck shell=bash
# etcd as a systemd service, on a machine of its own.
# shellcheck disable=SC2154
unit_path=/etc/systemd/system/etcd.service
# shellcheck disable=SC2034  # whose the files are, for the steps
owner=etcd

# A reinstalled machine is another machine.
machine_identity() { cat /etc/machine-id; }

service_pid() {
  local pid
  pid=$(systemctl show --property MainPID --value etcd.service)
  [[ $pid == 0 ]] || printf '%s' "$pid"
}

# Without waiting: a notify service is only "started" once there is a quorum.
service_start() {
  systemctl reset-failed etcd.service 2>/dev/null || true
  systemctl start --no-block etcd.service
}

service_restart() {
  systemctl stop etcd.service
  service_start
}

# A unit that is not there is stopped, too.
service_stop() { systemctl stop etcd.service 2>/dev/null || [[ -z $(service_pid) ]]; }

# Gave up, or keeps dying: waiting longer is no use.
service_failed() {
  [[ $(systemctl show --property ActiveState --value etcd.service) == failed ]] ||
    (($(systemctl show --property NRestarts --value etcd.service) > 2))
}

service_log() { journalctl --unit etcd.service --no-pager --output cat --lines "$1" 2>/dev/null || true; }

# put_service CONTENT(base64): the unit, known to systemd and started on boot.
put_service() {
  if put_file 644 root "$unit_path" "$1"; then systemctl daemon-reload; fi
  systemctl is-enabled --quiet etcd.service 2>/dev/null || systemctl enable --quiet etcd.service
}

service_differs() { file_differs "$unit_path" "$1"; }

# shellcheck shell=bash
# etcd as a systemd service, on a machine of its own.
# shellcheck disable=SC2154
# shellcheck disable=SC2034  # both are for the steps: what systemd reads, and whose the files are
unit_path=/etc/systemd/system/etcd.service owner=etcd

# The id changes if the machine is reinstalled.
machine_identity() { cat /etc/machine-id; }

service_pid() {
  local pid
  pid=$(systemctl show --property MainPID --value etcd.service)
  [[ $pid == 0 ]] || printf '%s' "$pid"
}

# Does not wait: a service of Type=notify counts as started only once there is a quorum.
service_start() {
  systemctl reset-failed etcd.service 2>/dev/null || true
  systemctl start --no-block etcd.service
}

# A unit that does not exist counts as stopped.
service_stop() { systemctl stop etcd.service 2>/dev/null || [[ -z $(service_pid) ]]; }

# The service failed or restarts again and again: a longer wait does not help.
service_failed() { is_failure "$(systemctl show --property ActiveState,NRestarts etcd.service)"; }
is_failure() { [[ $1 == *ActiveState=failed* ]] || { [[ $1 =~ NRestarts=([0-9]+) ]] && ((BASH_REMATCH[1] > 2)); }; }

# Reports the service, and sets $pid: empty if it does not run.
service_facts() {
  local state
  state=$(systemctl show --property ActiveState,NRestarts,MainPID etcd.service)
  if [[ $state =~ MainPID=([1-9][0-9]*) ]]; then pid=${BASH_REMATCH[1]}; else pid=''; fi
  fact pid "$pid"
  if is_failure "$state"; then fact failed yes; fi
  if on_boot etcd.service; then fact on_boot yes; fi
}

# on_boot UNIT: true if `systemctl enable` was run for it. All our units are wanted by multi-user.target.
on_boot() { [[ -L /etc/systemd/system/multi-user.target.wants/$1 ]]; }

service_log() { journalctl --unit etcd.service --no-pager --output cat --lines "$1" 2>/dev/null || true; }

# put_unit UNIT CONTENT(base64): writes a unit, loads it into systemd, and enables it on boot.
put_unit() {
  put_file 644 root "/etc/systemd/system/$1" "$2" || true
  on_boot "$1" || systemctl enable --quiet --no-reload "$1"
  unit_loaded "$1" || systemctl daemon-reload
}

# systemd reads a new unit by itself. The slow daemon-reload is only for a unit that systemd has loaded in an older form.
unit_loaded() {
  local state
  state=$(systemctl show --property LoadState,NeedDaemonReload "$1")
  [[ $state == *LoadState=loaded* && $state == *NeedDaemonReload=no* ]]
}

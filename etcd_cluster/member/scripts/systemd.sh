# shellcheck shell=bash
# etcd as a systemd service, on a machine of its own.
# shellcheck disable=SC2154
# shellcheck disable=SC2034  # both are for the steps: what systemd reads, and whose the files are
unit_path=/etc/systemd/system/etcd.service owner=etcd

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

# A unit that is not there is stopped, too.
service_stop() { systemctl stop etcd.service 2>/dev/null || [[ -z $(service_pid) ]]; }

# Gave up, or keeps dying: waiting longer is no use.
service_failed() { is_failure "$(systemctl show --property ActiveState,NRestarts etcd.service)"; }
is_failure() { [[ $1 == *ActiveState=failed* ]] || { [[ $1 =~ NRestarts=([0-9]+) ]] && ((BASH_REMATCH[1] > 2)); }; }

# What observation tells of the service, and $pid: empty where none runs.
service_facts() {
  local state
  state=$(systemctl show --property ActiveState,NRestarts,MainPID etcd.service)
  if [[ $state =~ MainPID=([1-9][0-9]*) ]]; then pid=${BASH_REMATCH[1]}; else pid=''; fi
  fact pid "$pid"
  if is_failure "$state"; then fact failed yes; fi
  if on_boot etcd.service; then fact on_boot yes; fi
}

# on_boot UNIT: started on boot, as `systemctl enable` leaves it on the disk. Ours are all wanted by this target.
on_boot() { [[ -L /etc/systemd/system/multi-user.target.wants/$1 ]]; }

service_log() { journalctl --unit etcd.service --no-pager --output cat --lines "$1" 2>/dev/null || true; }

# put_unit UNIT CONTENT(base64): known to systemd, and started on boot.
put_unit() {
  put_file 644 root "/etc/systemd/system/$1" "$2" || true
  on_boot "$1" || systemctl enable --quiet --no-reload "$1"
  unit_loaded "$1" || systemctl daemon-reload
}

# systemd reads a new unit by itself. Telling it to, which takes long, is for one that it holds in an older form.
unit_loaded() {
  local state
  state=$(systemctl show --property LoadState,NeedDaemonReload "$1")
  [[ $state == *LoadState=loaded* && $state == *NeedDaemonReload=no* ]]
}

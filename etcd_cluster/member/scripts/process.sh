# shellcheck shell=bash
# etcd as a process of the calling user, on this machine.
# shellcheck disable=SC2154
# shellcheck disable=SC2034  # whose the files are, for the steps
owner=$(id -un)
pid_path=$state_path/etcd.pid
log_path=$logs_path/etcd.log

# Each member has its own folder on this machine. The id changes if the folder is deleted and made again.
machine_identity() {
  printf '%s:%s' "$(cat /etc/machine-id 2>/dev/null || uname -n)" "$state_path"
  [[ ! -s $state_path/machine ]] || printf ':%s' "$(cat "$state_path/machine")"
}
keep_machine_identity() {
  [[ ! -s $state_path/machine ]] || return 0
  must mkdir -p "$state_path"
  put_file 644 "$owner" "$state_path/machine" "$(base64 -w 0 /proc/sys/kernel/random/uuid)" || true
}

service_pid() {
  local pid
  pid=$(cat "$pid_path" 2>/dev/null) || return 0
  # Another process may have that id now.
  if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -e "$configuration_path/etcd.yaml" -e "$configuration_path/bootstrap.yaml"; then printf '%s' "$pid"; fi
}

service_start() {
  [[ -z $(service_pid) ]] || return 0
  local file=etcd
  has_data || file=bootstrap
  [[ -f $configuration_path/$file.yaml ]] || fail "$data_path is empty: its data is lost, and it must not start as a new member"
  mkdir -p "$logs_path"
  # In its own session, so that it outlives this one, without this run's lock, and without an environment. `env` would read a
  # path with "=" in it as a variable.
  # shellcheck disable=SC2016  # for that shell to expand
  setsid env -i /bin/sh -c 'exec "$@"' sh "$binaries_path/etcd" --config-file "$configuration_path/$file.yaml" >>"$log_path" 2>&1 </dev/null 9>&- &
  printf '%s\n' "$!" >"$pid_path"
  # Before it executes etcd, it is a copy of this shell, which would look like a failed start.
  wait_until 10 started_or_ended "$!" || true
}

started_or_ended() { [[ -n $(service_pid) ]] || process_ended "$1"; }

service_stop() {
  local pid
  pid=$(service_pid)
  [[ -n $pid ]] || return 0
  kill "$pid"
  wait_until 30 process_ended "$pid" || fail "etcd (process $pid) did not stop within 30 seconds"
}

process_ended() { ! kill -0 "$1" 2>/dev/null || [[ $(ps -o stat= -p "$1") == Z* ]]; }

# Asks twice: while a process executes another program, as etcd's does on its way there, it has no command line for an instant.
service_failed() { [[ -z $(service_pid) ]] && sleep 0.1 && [[ -z $(service_pid) ]]; }

service_log() { tail -n "$1" "$log_path" 2>/dev/null || true; }

# Reports the process, and sets $pid: empty if it does not run. Nothing starts it on boot.
service_facts() {
  pid=$(service_pid)
  if [[ -n $pid ]]; then fact pid "$pid"; else fact failed yes; fi
}

# shellcheck shell=bash
# What every step shares: arguments, messages, locking, atomic files, asking etcd. Variables that are not assigned
# here come from render.py.
# shellcheck disable=SC2154
set -euo pipefail
umask 022
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

# The line that ran this script: KEY=VALUE pairs that a reviewer can read.
declare -A spec=()
read_spec() {
  shift # the step's name
  local pair
  for pair in "$@"; do spec[${pair%%=*}]=${pair#*=}; done
}

# say TEXT: one short line of progress.
say() { printf '%s: %s\n' "${spec[member]:-cluster}" "$*" >&2; }

# fail TEXT: ends the step. What is wrong, with the value, and what to do.
fail() {
  printf 'error: %s: %s\n' "${spec[member]:-cluster}" "$*" >&2
  exit 1
}

# One step at a time on a machine: an earlier run that lost its connection may still be at work here.
lock() {
  mkdir -p "$state_path"
  exec 9>"$state_path/lock"
  flock --wait 300 9 || fail "another run has been at work on this machine for 5 minutes; wait for it and run again"
}

# wait_until SECONDS COMMAND...: 0 once the command succeeds, 1 when the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# file_differs PATH CONTENT(base64)
file_differs() {
  [[ ! -f $1 ]] || ! printf '%s' "$2" | base64 -d | cmp -s - "$1"
}

# put_file MODE OWNER PATH CONTENT(base64): writes atomically, and only what differs. 0 when it wrote, 1 when it need not.
# It ends the step where it cannot: callers look at the status, and so `set -e` does not hold in here.
put_file() {
  local mode=$1 owner=$2 path=$3 content=$4 new
  if ! file_differs "$path" "$content" && [[ $(stat -c '%a %U' "$path") == "$mode $owner" ]]; then return 1; fi
  if ! { new=$(mktemp "${path%/*}/.new-XXXXXX") &&
    printf '%s' "$content" | base64 -d >"$new" &&
    chmod "$mode" "$new" &&
    { ((EUID != 0)) || chown "$owner:" "$new"; } &&
    sync "$new" &&
    mv -f "$new" "$path"; }; then
    fail "cannot write $path (see above); mend that, then run again"
  fi
}

# require_space MIB FOLDER...: room for what is about to be written.
require_space() {
  local folder free
  for folder in "${@:2}"; do
    free=$(df -Pk "$folder" | awk 'END { print int($4 / 1024) }')
    ((free >= $1)) || fail "$folder: $free MiB free, but $1 MiB are needed there; free some space, then run again"
  done
}

# etcdctl_at URLS(comma-separated) ARGUMENTS...: as the member itself, whose certificate serves clients and is one.
credentials_path=$pki_path credentials=server
etcdctl_at() {
  local tls=()
  if [[ $1 == https:* ]]; then
    tls=(--cacert "$credentials_path/ca.crt" --cert "$credentials_path/$credentials.crt" --key "$credentials_path/$credentials.key")
  fi
  timeout 15 "$binaries_path/etcdctl" --endpoints "$1" --dial-timeout 2s --command-timeout 5s "${tls[@]}" "${@:2}"
}

healthy() { etcdctl_at "$1" endpoint health >/dev/null 2>&1; }

# status_field URL NAME: one value of `etcdctl endpoint status`, such as Leader, MemberID or RaftAppliedIndex.
status_field() {
  etcdctl_at "$1" endpoint status --write-out fields |
    awk -F ' : ' -v name="\"$2\"" '$1 == name { gsub(/"/, "", $2); print $2; exit }'
}

# marker_field NAME: from the marker beside the data; nothing where there is no marker.
data_token() { marker_field token; }
marker_field() {
  [[ ! -f $volume_path/etcd-cluster.json ]] || sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" "$volume_path/etcd-cluster.json"
}

has_data() { [[ -d $data_path/member ]]; }

# fail_with_log TEXT: as `fail`, with what etcd itself said last.
fail_with_log() { fail "$1; the last lines of its log:"$'\n'"$(service_log 20 | cut -c1-400)"; }

# listening PORT: some program of this machine does, on any address.
listening() {
  awk -v port="$(printf ':%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

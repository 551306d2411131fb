# shellcheck shell=bash
# What every step shares: arguments, messages, locking, atomic files, asking etcd. Variables that are not assigned
# here come from render.py.
# shellcheck disable=SC2154
set -euo pipefail
umask 022
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
# A user's shell may be set up for etcdctl (scripts/env), which refuses a flag beside the variable of the same name.
unset "${!ETCDCTL_@}"

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

# Of several runs at work on one cluster, the last one that began goes on: an earlier one, whose operator was killed or
# whose connection was lost, ends at its next step. A claim waits for the step that is under way here.
claim() {
  lock
  put_file 644 "$(id -un)" "$state_path/run" "$(printf '%s' "$1" | base64 -w 0)" || true
}
require_claim() {
  [[ $(cat "$state_path/run" 2>/dev/null) == "${spec[run]}" ]] || fail "a later run has taken this cluster over; this one ends here"
}

# wait_until SECONDS COMMAND...: 0 once the command succeeds, 1 when the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}

# file_differs PATH CONTENT(base64)
file_differs() {
  [[ ! -f $1 ]] || ! printf '%s' "$2" | base64 -d | cmp -s - "$1"
}

# put_file MODE OWNER(member: whoever etcd runs as) PATH CONTENT(base64): writes atomically, and only what differs. 0 when it wrote, 1 when it need not.
# It ends the step where it cannot: callers look at the status, and so `set -e` does not hold in here.
put_file() {
  local mode=$1 user=$2 path=$3 content=$4 new
  [[ $user != member ]] || user=$owner
  if ! file_differs "$path" "$content" && [[ $(stat -c '%a %U' "$path") == "$mode $user" ]]; then return 1; fi
  if ! { new=$(mktemp "${path%/*}/.new-XXXXXX") &&
    printf '%s' "$content" | base64 -d >"$new" &&
    chmod "$mode" "$new" &&
    { ((EUID != 0)) || chown "$user:" "$new"; } &&
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
  if [[ -f $credentials_path/$credentials.key ]]; then
    tls=(--cacert "$credentials_path/ca.crt" --cert "$credentials_path/$credentials.crt" --key "$credentials_path/$credentials.key")
  fi
  timeout "${patience:-15}" "$binaries_path/etcdctl" --endpoints "$1" --dial-timeout 2s --command-timeout "${answer_within:-5s}" "${tls[@]}" "${@:2}"
}

# Where clients are told to find this machine's own member.
advertised_client_url() { sed -n 's/^advertise-client-urls: //p' "$configuration_path/etcd.yaml"; }

# This machine's own member, by loopback, which every member listens on.
own_client_url() {
  local address scheme=http
  address=$(advertised_client_url)
  [[ $address != https:* ]] || scheme=https
  echo "$scheme://127.0.0.1:${address##*:}"
}

# What the member measures of itself, into `measured`: name, without its "etcd_", -> value; a label's value where there is
# one; `active_peers`: ids of the members that it has a connection with, comma-separated. Without TLS, on loopback, and without a write, which a look at /health is on 3.4.
metrics() {
  local port name value
  declare -gA measured=()
  port=$(sed -n 's/^listen-metrics-urls: .*:\([0-9]*\)$/\1/p' "$configuration_path/etcd.yaml" 2>/dev/null)
  [[ -n $port ]] || return 1
  while read -r name value; do
    if [[ $name =~ ^etcd_network_active_peers\{.*Remote=\"([0-9a-f]+)\" ]]; then
      [[ $value == 0 ]] || measured[active_peers]+="${measured[active_peers]:+,}${BASH_REMATCH[1]}"
      continue
    fi
    if [[ $name =~ ^([a-z_]+)\{[a-z_]+=\"(.*)\"\}$ ]]; then name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}; fi
    measured[${name#etcd_}]=$value
  done < <(
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$port" || exit
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    timeout 3 grep -aE '^etcd_(server_(id|is_leader|is_learner|has_leader|version|proposals_(applied|committed)_total)|cluster_version|mvcc_db_total_size_in_bytes|network_active_peers)[{ ]' <&3
  )
  [[ -n ${measured[server_has_leader]:-} ]]
}

# marker_field NAME: from the marker beside the data; nothing where there is no marker.
data_token() { marker_field token; }
marker_field() {
  local marker=''
  [[ ! -f $volume_path/etcd-cluster.json ]] || marker=$(<"$volume_path/etcd-cluster.json")
  [[ ! $marker =~ \"$1\":\ \"([^\"]*)\" ]] || printf '%s' "${BASH_REMATCH[1]}"
}

make_data_folder() {
  mkdir -p "$data_path"
  chmod 700 "$data_path"
  [[ $supervisor != systemd ]] || chown etcd: "$data_path"
}

# As etcd judges it: without a log, it starts from nothing.
has_data() { [[ -d $data_path/member/wal ]]; }
# Anything of etcd's, also what it would not start from.
holds_data() { [[ -e $data_path/member ]]; }

# fail_with_log TEXT: as `fail`, with what etcd itself said last.
fail_with_log() { fail "$1; the last lines of its log:"$'\n'"$(log)"; }

log() { service_log 20 | cut -c1-400; }

# listening PORT: some program of this machine does, on any address.
listening() {
  awk -v port="$(printf ':%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# running_programs [PID]: the folder of the program that runs, which may not be the one that would be started.
running_programs() {
  local pid=${1-$(service_pid)} program
  [[ -n $pid ]] && program=$(readlink "/proc/$pid/exe") || return 0
  echo "${program%/*}"
}

# The index of the newest snapshot that etcd made of its log, in decimal; files are called TERM-INDEX.snap.
newest_snapshot() {
  local file newest=''
  for file in "$data_path"/member/snap/*-*.snap; do newest=${file##*-}; done
  newest=${newest%.snap}
  [[ ! $newest =~ ^[0-9a-f]+$ ]] || echo "$((16#$newest))"
}

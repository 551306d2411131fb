#!/usr/bin/env bash
# What restoring.py compares with: a snapshot restored on every member of a running cluster on this machine, as a good engineer does
# it by hand: all stop, each restores the snapshot beside its old data, all start. Revisions are raised as ours are.
#
#   restore_by_hand.sh SNAPSHOT plain|careful MEMBER_FOLDER...
#
# careful: first a snapshot of what is there, and a restore of SNAPSHOT into a member apart, from which keys are read.
set -euo pipefail

snapshot=$1 how=$2
shift 2
members=("$@")

# setting FOLDER KEY: of the member's etcd.
setting() { sed -n "s/^$2: *//p" "$1/configuration/etcd.yaml"; }

# answers URL: waits for a member that serves.
answers() { until "${members[0]}/bin/etcdctl" --endpoints "$1" endpoint health >/dev/null 2>&1; do sleep 0.05; done; }

# on_all FUNCTION: for every member at once.
on_all() {
  local member processes=() process
  for member in "${members[@]}"; do
    "$1" "$member" &
    processes+=("$!")
  done
  for process in "${processes[@]}"; do wait "$process"; done
}

stop() {
  local pid
  pid=$(cat "$1/state/etcd.pid")
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null && [[ $(ps -o stat= -p "$pid") != Z* ]]; do sleep 0.05; done
}

restore() {
  mv "$1/volume/data" "$1/volume/data.old"
  "$1/bin/etcdutl" snapshot restore "$snapshot" --data-dir "$1/volume/data" --name "$(setting "$1" name)" --initial-cluster "$cluster" \
    --initial-advertise-peer-urls "$(setting "$1" initial-advertise-peer-urls)" --initial-cluster-token "$token" \
    --bump-revision 1000000000 --mark-compacted >/dev/null 2>&1
}

start() {
  setsid "$1/bin/etcd" --config-file "$1/configuration/etcd.yaml" >>"$1/logs/etcd.log" 2>&1 </dev/null &
  echo "$!" >"$1/state/etcd.pid"
}

careful() {
  local work=$1/volume/apart url=http://127.0.0.1:21379 pid
  mkdir "$work"
  "$1/bin/etcdctl" --endpoints "$(setting "$1" advertise-client-urls)" snapshot save "$work/before.db" >/dev/null 2>&1
  "$1/bin/etcdutl" snapshot restore "$snapshot" --data-dir "$work/data" >/dev/null 2>&1
  "$1/bin/etcd" --data-dir "$work/data" --listen-client-urls "$url" --advertise-client-urls "$url" --listen-peer-urls http://127.0.0.1:21380 >/dev/null 2>&1 &
  pid=$!
  answers "$url"
  "$1/bin/etcdctl" --endpoints "$url" get --prefix '' --limit 10 --keys-only >/dev/null
  kill "$pid"
  wait "$pid" || true
  rm -rf "$work/data"
}

cluster=$(for member in "${members[@]}"; do printf ',%s=%s' "$(setting "$member" name)" "$(setting "$member" initial-advertise-peer-urls)"; done)
cluster=${cluster#,} token=by-hand-$RANDOM
if [[ $how == careful ]]; then careful "${members[0]}"; fi
on_all stop
on_all restore
for member in "${members[@]}"; do start "$member"; done
for member in "${members[@]}"; do answers "$(setting "$member" advertise-client-urls)"; done
for member in "${members[@]}"; do rm -rf "$member/volume/data.old" "$member/volume/apart"; done

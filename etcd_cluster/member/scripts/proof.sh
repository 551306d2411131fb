# shellcheck shell=bash
# Proves a backup, or a snapshot, apart from any cluster: restores it into a scratch member that only this machine reaches, and compares
# what that serves with the manifest.
# shellcheck disable=SC2154
FIRST_PORT=61000 # above those that Linux gives to connections: one of them would be taken between a look and its use

# restored_equal NAME: fetches, checks, restores, starts, compares. Fails with the reason. Sets `scratch`, the folder with it, and
# `manifest`.
restored_equal() {
  local bytes expected revision found
  bytes=$(stored_bytes "$1")
  scratch=$(scratch_folder "$bytes")
  at_exit remove_scratch
  # With our own sums: that of the store would tell of a transport that failed, and not of a backup that is damaged.
  to_store copyto "$backup_store/$1.json" "$scratch/manifest" --ignore-checksum
  manifest=$(cat "$scratch/manifest")
  bytes=$(field bytes) expected=$(field sha256) revision=$(field revision)
  [[ $bytes =~ ^[0-9]+$ && $revision =~ ^[0-9]+$ && $expected =~ ^[0-9a-f]{64}$ ]] || unfit "its manifest is damaged. Expected: bytes, revision and sha256. Take another backup"
  is_manifest_of "$1" || unfit "its manifest is that of another backup. Expected: its own, with its name. Take another backup"
  require_agreement
  # What does not decrypt is damaged, as its manifest did with the same password.
  if_undecrypted="its data does not decrypt, and its manifest does. Expected: both, by one password. The store changed it: take another backup" \
    to_store copyto "$backup_store/$1.db" "$scratch/db" --ignore-checksum
  found=$(sha256 <"$scratch/db")
  [[ $found == "$expected" ]] || unfit "its SHA-256 is $found. Expected: $expected, as in its manifest. The store changed it: take another backup"
  serves_equal "$scratch/db" "$revision"
}

# require_agreement: what one member held proves nothing where others held other keys. It may be restored all the same.
require_agreement() {
  [[ $(field hashMissing) == differed ]] || return 0
  [[ -z ${as_proof:-} ]] || refuse_proof "members differed when it was made, so that it restores shows what one of them held. Expected: a backup that all members agree on. Let the one that differs join anew (docs/space.md), and take another backup"
  say "members differed when it was made: it holds what one of them held, and others may have held other keys"
}
# refuse_proof TEXT: fails, as no test can prove that backup.
refuse_proof() {
  echo refused >"$state_path/test-verdict"
  fail "$1"
}

# serves_equal FILE REVISION: a member that starts from it serves, at that revision, with the hash that $manifest has, if it has one.
serves_equal() {
  local revision=$2 found hash compacted own='' said
  restore_from "$1" "$scratch/data"
  start_scratch
  found=$(scratch_revision)
  # An empty database is at revision 1 once it serves. Leases that end are later revisions.
  [[ -n $found ]] || gave_nothing revision
  ((found >= (revision > 1 ? revision : 1))) || unfit "its revision is $found. Expected: $revision, as in its manifest. Take another backup"
  hash=$(sed -n 's/.*"hash": {"value": \([0-9]*\).*/\1/p' < <(printf '%s\n' "$manifest"))
  [[ -n $hash || $manifest != *'"hash": {'* ]] || unfit "its manifest is damaged. Expected: a hash with its value, or none. Take another backup"
  # Without a hash, there is nothing of the members to compare with.
  [[ -n $hash ]] || return 0
  # Members may have compacted between the snapshot and their hash, which depends on that.
  compacted=$(sed -n 's/.*"compactRevision": \(-\{0,1\}[0-9]*\).*/\1/p' < <(printf '%s\n' "$manifest"))
  read -r found own < <(scratch_hash "$revision") || true
  if ((${compacted:-0} > ${own:-0})); then
    said=$(at_scratch compaction --physical "$compacted" 2>&1) || {
      is_refusal "$said" || gave_nothing "compaction ($(last_words "$said"))"
      say "the hash over its keys is not compared: etcd's authentication is on in it, so this machine may not compact it as the members had"
      return
    }
    read -r found own < <(scratch_hash "$revision") || true
  fi
  [[ -n $found ]] || gave_nothing "hash over its keys"
  [[ $found == "$hash" ]] || unfit "the hash over its keys is $found. Expected: $hash, as the members had it. Take another backup"
  # shellcheck disable=SC2034  # for the steps
  equal=yes
}
# gave_nothing WHAT: no answer is none about the backup.
gave_nothing() { fail "the member that was started from it gave no $1 in time. Expected: an answer, from a machine with time to spare. Run it again (etcd-cluster backup test)"; }
field() { sed -n "s/.*\"$1\": \"\{0,1\}\([0-9a-zA-Z.:-]*\).*/\1/p" < <(printf '%s\n' "$manifest"); }
# is_manifest_of NAME: a copy of another backup over this one would pass for it.
is_manifest_of() { [[ $manifest == *"\"name\": \"$1\""* ]]; }

# stored_bytes NAME: prints the size of a backup's data in the store.
stored_bytes() {
  local said
  said=$(names)
  [[ $'\n'$said$'\n' == *$'\n'"$1.db"$'\n'* ]] || unfit "its data is gone from the store. Expected: $1.db there. Take another backup"
  said=$(rclone size --json "$backup_store/$1.db" 2>&1) || fail "$(store_problem "$said")"
  sed -n 's/.*"bytes":\([0-9]*\).*/\1/p' < <(printf '%s\n' "$said")
}

# unfit TEXT: fails, as the backup itself cannot be restored.
unfit() {
  echo failed >"$state_path/test-verdict"
  fail "$1"
}

# scratch_folder BYTES: makes one, on a file system that bears a snapshot of that size and what is made of it; not that of the data,
# if it can.
scratch_folder() {
  local folder
  for folder in "$state_path" "$volume_path"; do
    (($(df --output=avail -k "$folder" | tail -n 1) > $1 * 5 / 2048 + 256 * 1024)) || continue
    mktemp -d "$folder/scratch-XXXXXX"
    return
  done
  fail "$state_path and $volume_path have no room for a test. Expected: $(($1 * 5 / 2 / 1048576 + 256)) MiB. Free some space, or set backup.test to never"
}

remove_scratch() {
  stop_scratch
  rm -rf "$scratch"
}
stop_scratch() {
  local pid
  pid=$(cat "$scratch/pid" 2>/dev/null) || return 0
  if scratch_runs "$pid"; then
    kill "$pid" 2>/dev/null || true
    wait_until 20 process_gone "$pid" || kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$scratch/pid"
}
process_gone() { ! kill -0 "$1" 2>/dev/null; }
# scratch_runs PID: since a reboot, another process may have that id.
scratch_runs() { tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline" | grep -qxF -e "$scratch/data"; }

# remove_leftovers: ends the members and removes the folders of runs that were killed.
remove_leftovers() {
  for scratch in "$state_path"/scratch-* "$volume_path"/scratch-*; do
    [[ ! -d $scratch ]] || remove_scratch
  done
}

unsummed=() # --skip-hash-check for a copy of a database, which has no sum of etcd's own at its end
# restore_from FILE FOLDER: makes a data folder of a snapshot, for a member of its own cluster.
restore_from() {
  local said
  find_free_ports
  said=$(ETCDCTL_API=3 "$(restoring_tool)" snapshot restore "$1" "${unsummed[@]}" --data-dir "$2" --name scratch --initial-cluster "scratch=http://127.0.0.1:$scratch_peer_port" \
    --initial-advertise-peer-urls "http://127.0.0.1:$scratch_peer_port" --initial-cluster-token "scratch-$RANDOM-$RANDOM" 2>&1) || {
    [[ $said != *"no space left"* ]] || fail "there is no room to restore it. Expected: more free space in ${2%/*}. Free some space"
    unfit "it does not restore: $(last_words "$said"). Take another backup"
  }
}

restoring_tool() { if [[ -x $binaries_path/etcdutl ]]; then echo "$binaries_path/etcdutl"; else echo "$binaries_path/etcdctl"; fi; }

find_free_ports() {
  local port=$((FIRST_PORT + RANDOM % 4000))
  scratch_ports=()
  while ((${#scratch_ports[@]} < 3)); do
    port=$((port + 1))
    listening "$port" || scratch_ports+=("$port")
  done
  scratch_client_port=${scratch_ports[0]} scratch_peer_port=${scratch_ports[1]} scratch_metrics_port=${scratch_ports[2]}
}

# start_scratch: starts a member on loopback, with none of the cluster's settings: only its certificate, which it asks clients for. With
# etcd's authentication on in the data, its client port answers few. So its metrics tell how it is, and its peer port the hash over
# all keys: neither knows users, nor tells a key.
start_scratch() {
  local tls=()
  scheme=http
  if [[ -f $pki_path/server.key ]]; then
    scheme=https
    tls=(--cert-file "$pki_path/server.crt" --key-file "$pki_path/server.key" --trusted-ca-file "$pki_path/ca.crt" --client-cert-auth)
  fi
  # shellcheck disable=SC2016  # for that shell
  setsid env -i sh -c 'echo "$$" >"$0"; exec "$@"' "$scratch/pid" "$binaries_path/etcd" --name scratch --data-dir "$scratch/data" \
    --listen-client-urls "$scheme://127.0.0.1:$scratch_client_port" --advertise-client-urls "$scheme://127.0.0.1:$scratch_client_port" \
    --listen-peer-urls "http://127.0.0.1:$scratch_peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$scratch_peer_port" \
    --initial-cluster "scratch=http://127.0.0.1:$scratch_peer_port" --listen-metrics-urls "http://127.0.0.1:$scratch_metrics_port" "${tls[@]}" >"$scratch/log" 2>&1 </dev/null 8>&- 9>&- &
  wait_until 120 scratch_settled || fail "a member that was started from it does not serve after 120 seconds. Expected: less, on a machine with time to spare. Run it again (etcd-cluster backup test)"
  scratch_serves || {
    ! grep -q -e 'address already in use' -e 'no space left' "$scratch/log" || fail "a member to test it does not start here: $(last_words "$(cut -c1-300 "$scratch/log")"). Run it again (etcd-cluster backup test)"
    unfit "a member does not start from it: $(tail -n 3 "$scratch/log" | cut -c1-300 | paste -sd ' '). Take another backup"
  }
}
scratch_settled() { scratch_serves || { [[ -s $scratch/pid ]] && process_gone "$(cat "$scratch/pid")"; }; }
# It has a leader: itself. An alarm that the snapshot holds, as of a full database, says nothing of the data.
scratch_serves() { [[ $(scratch_metric etcd_server_has_leader) == 1 ]]; }
scratch_metric() {
  http_get "$scratch_metrics_port" /metrics 10 | awk -v name="$1" '$1 == name { printf "%.0f\n", $2 }'
}
scratch_revision() { scratch_metric etcd_debugging_mvcc_current_revision; }
at_scratch() { patience=120 answer_within=100s etcdctl_at "$scheme://127.0.0.1:$scratch_client_port" "$@"; }
# scratch_hash REVISION: prints HASH COMPACTED: the hash of its keys up to that revision, and up to where their history was compacted
# for it. Both are of one answer: a compaction between two would make a pair that no member ever had.
scratch_hash() {
  local said
  # shellcheck disable=SC2016  # that shell's own
  said=$(timeout 100 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET /members/hashkv HTTP/1.0\r\nContent-Length: %s\r\n\r\n%s" "${#1}" "$1" >&3 && exec cat <&3' \
    "$scratch_peer_port" "{\"revision\":$1}" 2>/dev/null) || true
  [[ $said =~ \"hash\":([0-9]+) ]] || return 0
  printf '%s ' "${BASH_REMATCH[1]}"
  if [[ $said =~ \"compact_revision\":(-?[0-9]+) ]]; then echo "${BASH_REMATCH[1]}"; else echo 0; fi
}

# shellcheck shell=bash
# Loads the cluster as its clients will, with etcd's own `benchmark`, and removes what that wrote, however the step ends. What a step
# left that was killed outright, or whose machine was lost, the next one removes before it begins.
# `benchmark` chooses its keys itself: a number, as Go's binary.PutVarint writes it, and zeros. All of them are known, and removed one
# by one: no key of another program is touched. Everything else is below $load_prefix: `running` is the lock key: it names the machine
# that is at work, and expires with its lease; `keys` says that keys of `benchmark` may be there; `value` is what is read; below
# `check-perf/` are the keys of etcd's own check. Keys are written under the lock, and never removed under another machine's.
# shellcheck disable=SC2154
load_prefix=/etcd-cluster/load-check
KEY_BYTES=64 KEYS=1000 # the keys that are written; 64 bytes are more than the numbers take, and as long as a key of Kubernetes
GROUPS_OF_FOUR=256     # what is read is 1 KiB of base64
BATCH=100              # of them in a request; etcd takes 128
CHECK_PERF_SECONDS=150 # etcd's own check takes 60 seconds, and cleans up in 30
CLEAN_SECONDS=120      # for as long as that, cleaning up is tried again: the cluster may just have borne too much
AWAIT_SECONDS=600      # for as long as that, another load check is waited for; one of a minute has a lock that lasts for 300
LOCK_SPARE_SECONDS=60  # the lock outlives the load by that, so that what ends the load ends first

# load_check urls=URL,... program=FILE writes=N reads=N clients=N seconds=N limit-seconds=N value-bytes=N [only-without-keys=yes]
# [compact=yes] [check-perf=s|m|l|xl] [client=yes] [clock=TEXT]: loads the cluster for that many seconds, and prints what `benchmark`
# reports; with check-perf, then also what etcd's own check says. With only-without-keys=yes, prints the number of keys instead, if
# others have any. With client=yes, this machine runs no member; with clock=TEXT, that is what is wrong with its clock. Or load_check
# clean=yes: only removes what an earlier one left; with only-without-keys=yes, then prints the number of keys likewise.
load_check() {
  read_spec "$@"
  lock
  # Not left to how bash ends by a signal of its own accord.
  trap 'exit "$FAILED"' HUP INT PIPE TERM
  load_folder=$state_path/load-check
  own_name="${spec[member]} $(load_check_id)"
  at_exit remove_load_folder
  # What a killed one left.
  must rm -rf "$load_folder"
  must mkdir -p "$load_folder"
  # Removes it also if this step is killed outright, once nothing of it runs any more. Until then it has the lock.
  # shellcheck disable=SC2016  # that shell's own
  exec 8> >(exec setsid sh -c 'trap "" HUP INT PIPE TERM; cat; rm -rf "$1"' sh "$load_folder" >/dev/null 2>&1)
  if [[ ${spec[client]:-} == yes ]]; then reach_members; else find_client_url; fi
  await_others
  if [[ ${spec[clean]:-} == yes ]]; then
    # Without the lock, whose key a full database would not take.
    remove_earlier_load
    unless_locked_elsewhere "del \"$load_prefix/running\"" || true
    print_other_keys 0 || true
    return
  fi
  at_exit end_load
  take_load_lock || {
    not_at_exit end_load
    [[ -z ${lease:-} ]] || etcdctl_at "$url" lease revoke "$lease" >/dev/null 2>&1 || true
    fail "another load check began at the same moment, or etcd takes no writes. Expected: one at a time, and a cluster that takes writes. Run \`etcd-cluster status\`, then run again"
  }
  remove_earlier_load
  ! print_other_keys 1 || return 0
  ! generated_keys_exist || fail "the cluster holds keys that \`benchmark\` writes (64 bytes: a number, then zeros), and no load check of ours wrote them. Expected: none, as they would be removed with those of the load check. Remove what somebody's own \`benchmark\` left, then run again"
  begin_load
  generate_load
  [[ -z ${spec[check-perf]:-} ]] || check_perf
}

remove_load_folder() { rm -rf "$load_folder"; }

# reach_members: sets `url` to the URLs of all members, after each of them has answered; with TLS, to the certificate that this script
# was given, whose files are in memory for the length of the step.
reach_members() {
  local each said
  url=${spec[urls]}
  if [[ $url == *https:* ]]; then
    [[ $(stat -f -c %T "$load_folder") =~ ^(tmpfs|ramfs)$ ]] || fail "$load_folder is not in memory ($(stat -f -c %T "$load_folder")), and a private key would be on a disk. Expected: a /run in memory, as systemd mounts it. Load from another machine"
    use_client_files "$load_folder"
  fi
  for each in ${url//,/ }; do
    # Of a line in JSON, the cause stands last.
    said=$(etcdctl_at "$each" get "$load_prefix/running" 2>&1) || fail "no answer from $each: $(last_words "${said##*desc = }")${spec[clock]:+; and ${spec[clock]}, by which certificates are judged}. Expected: a machine that reaches the client port of every member, as clients do${spec[clock]:+, and whose clock is right}. Open the way (\`clientCidrs\`, a firewall, a route)${spec[clock]:+ or set the clock (chronyc makestep)}, then run again"
  done
}

# print_other_keys OWN: with only-without-keys=yes, prints the number of keys besides that many of this script; 1 if there are no others.
print_other_keys() {
  local found
  [[ ${spec[only-without-keys]:-} == yes ]] || return
  found=$(count_keys) || exit "$FAILED"
  ((found > $1)) || return
  printf 'holds=%s\n' "$((found - $1))"
}
count_keys() { at_cluster get '' --from-key --keys-only --limit 1 --write-out fields | sed -n 's/^"Count" : //p'; }

# at_cluster ARGUMENTS...: etcdctl at this member; its errors end the step.
at_cluster() {
  local said
  said=$(etcdctl_at "$url" "$@" 2>&1) || fail "etcd refuses what the load check needs (etcdctl $1): $(last_words "$said")"
  printf '%s\n' "$said"
}

# generated_keys: prints every key that `benchmark put --sequential-keys` writes, quoted as etcdctl's transactions read them. It
# writes all numbers into one buffer: after the last number, the first ones are followed by the second byte of that.
generated_keys() {
  awk -v bytes="$KEY_BYTES" -v keys="$KEYS" '
    function key(first, second) { printf "\"\\x%02x\\x%02x%s\"\n", first, second, zeros }
    BEGIN {
      for (place = 2; place < bytes; place++) zeros = zeros "\\x00"
      last = int(2 * (keys - 1) / 128)
      for (number = 0; number < 2 * keys; number += 2)
        if (number >= 128) key(number % 128 + 128, int(number / 128))
        else {
          key(number, 0)
          key(number, last)
        }
    }'
}

generated_keys_exist() {
  local tests found
  mapfile -t tests < <(generated_keys | sed 's/.*/create(&) = "0"/')
  while ((${#tests[@]} > 0)); do
    found=$(printf '%s\n' "${tests[@]:0:BATCH}" '' '' '' | etcdctl_at "$url" txn --write-out json 2>&1) || fail "etcd refuses what the load check needs (etcdctl txn): $(last_words "$found")"
    # What did not succeed has no such field.
    [[ $found == *'"succeeded":true'* ]] || return 0
    tests=("${tests[@]:BATCH}")
  done
  return 1
}

# load_check_id: prints what tells this machine from others that are reached by the same name.
load_check_id() {
  local file=$state_path/load-check-id
  [[ -s $file ]] || { head -c 8 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$file.new" && mv "$file.new" "$file"; } || fail "cannot write $file. Make room there, then run again"
  cat "$file"
}

# await_others: a load check at work on this machine has the machine's lock, so a lock key with its name is of one that is over. One on
# another machine is waited for: it removes the lock key at its end, and if that machine was lost, the key's lease expires.
await_others() {
  local holder left announced='' latest=$((SECONDS + AWAIT_SECONDS))
  holder=$(at_cluster get "$load_prefix/running" --print-value-only)
  [[ -n $holder && $holder != "$own_name" ]] || return 0
  until nobody_runs; do
    left=$(lock_seconds)
    if ((SECONDS + left >= latest)); then
      if ((left > 0)); then left="its lock key lasts for another $left s"; else left='etcd does not tell for how long its lock key lasts'; fi
      fail "a load check on ${holder% *} is at work, or its machine was lost, and $left. Expected: one at a time, and $AWAIT_SECONDS s at most to wait for it. Run again when it is over"
    fi
    [[ -n $announced ]] || if ((left > 0)); then
      say "waits for a load check on ${holder% *}: its lock key lasts for $left s at most"
    else
      say "waits for a load check on ${holder% *}, for $AWAIT_SECONDS s at most"
    fi
    announced=yes
    sleep 2
  done
}

# nobody_runs: sets `holder` to what the lock key says. Without an answer, one may be at work.
nobody_runs() {
  local found
  found=$(etcdctl_at "$url" get "$load_prefix/running" --print-value-only) || return
  holder=$found
  [[ -z $holder ]]
}

# lock_seconds: prints for how long the lock key lasts at most; 0 if etcd does not tell, or its lease expires now.
lock_seconds() {
  local lease left=''
  lease=$(etcdctl_at "$url" get "$load_prefix/running" --write-out fields 2>/dev/null | sed -n 's/^"Lease" : //p') || true
  [[ ! $lease =~ ^[0-9]+$ ]] ||
    left=$(etcdctl_at "$url" lease timetolive "$(printf '%x' "$lease")" --write-out fields 2>/dev/null | sed -n 's/^"TTL" : //p') || true
  [[ $left =~ ^[0-9]+$ ]] || left=0
  echo "$left"
}

# take_load_lock: writes the lock key with this machine's name, unless another machine has it. Sets `lease`, with which it expires.
take_load_lock() {
  local granted length=$((spec[limit-seconds] + LOCK_SPARE_SECONDS)) test
  [[ -z ${spec[check-perf]:-} ]] || length=$((length + CHECK_PERF_SECONDS))
  granted=$(etcdctl_at "$url" lease grant "$length" --write-out json 2>&1) && [[ $granted =~ \"ID\":([0-9]+) ]] || return 1
  lease=$(printf '%x' "${BASH_REMATCH[1]}")
  for test in "create(\"$load_prefix/running\") = \"0\"" "value(\"$load_prefix/running\") = \"$own_name\""; do
    ! transaction "$test" "put \"$load_prefix/running\" \"$own_name\" --lease=$lease" || return 0
  done
  return 1
}

# transaction TEST COMMAND...: carries all of them out if the test holds; 1 if it does not, or without an answer.
transaction() {
  local answer
  answer=$({ printf '%s\n\n' "$1" && printf '%s\n' "${@:2}" && printf '\n\n'; } | etcdctl_at "$url" txn --write-out json 2>&1) &&
    [[ $answer == *'"succeeded":true'* ]]
}
while_locked() { transaction "value(\"$load_prefix/running\") = \"$own_name\"" "$@"; }
# Also where no machine has the lock any more.
unless_locked_elsewhere() { while_locked "$@" || transaction "create(\"$load_prefix/running\") = \"0\"" "$@"; }

remove_earlier_load() {
  at_cluster get "$load_prefix/" --prefix --keys-only | grep -v "^$load_prefix/running$" | grep -q . || return 0
  say "removes what an earlier load check left"
  remove_keys || fail "keys of an earlier load check cannot be removed. Expected: a cluster that takes writes. Run \`etcd-cluster status\`, which says what it lacks"
}

# remove_keys: all but the lock key. That keys of `benchmark` may be there goes last.
remove_keys() {
  local commands found
  found=$(etcdctl_at "$url" get "$load_prefix/keys" --keys-only 2>/dev/null) || return
  if [[ -n $found ]]; then
    mapfile -t commands < <(generated_keys | sed 's/^/del /')
    while ((${#commands[@]} > 0)); do
      unless_locked_elsewhere "${commands[@]:0:BATCH}" || return
      commands=("${commands[@]:BATCH}")
    done
  fi
  unless_locked_elsewhere "del \"$load_prefix/check-perf/\" --prefix" "del \"$load_prefix/value\"" "del \"$load_prefix/keys\""
}

# remove_own: removes what this step wrote. If this machine was away for longer than its lease lasts, and another one has the lock, that
# one removes the same keys.
remove_own() {
  local holder
  [[ -n ${lease:-} ]] || return 0
  holder=$(etcdctl_at "$url" get "$load_prefix/running" --print-value-only 2>/dev/null) || return
  [[ -n $holder && $holder != "$own_name" ]] || remove_keys
}

# begin_load: says that keys of `benchmark` may be there from now on.
begin_load() {
  local value
  value=$(head -c "$((GROUPS_OF_FOUR * 3))" /dev/urandom | base64 -w 0)
  while_locked "put \"$load_prefix/keys\" \"$KEYS\"" "put \"$load_prefix/value\" \"$value\"" || fail "etcd does not take what the load check begins with. Expected: a cluster that takes writes, and no other load check. Run \`etcd-cluster status\`, then run again"
  begun=yes
}

# end_load: at the end of the step, however it ends; nobody may be there to read what is printed.
end_load() {
  trap '' PIPE HUP INT TERM
  local program
  for program in writes reads; do
    [[ ! -s $load_folder/$program.pid ]] || kill "$(<"$load_folder/$program.pid")" 2>/dev/null || true
    wait_until 10 is_over "$program" || true
  done
  # On SIGINT alone, it waits for its requests that are under way: none writes after the keys were removed here.
  [[ ! -s $load_folder/check_perf.pid ]] || kill -s INT "$(<"$load_folder/check_perf.pid")" 2>/dev/null || true
  wait_until "$CLEAN_SECONDS" is_over check_perf || true
  pause=1 wait_until "$CLEAN_SECONDS" remove_own || { say "keys of the load check are left: the cluster takes no writes. The next load check removes them" || true; }
  [[ -z ${lease:-} ]] || etcdctl_at "$url" lease revoke "$lease" >/dev/null 2>&1 || true
  [[ ${spec[compact]:-} != yes || -z ${begun:-} ]] || drop_history >/dev/null 2>&1 || true
}

# drop_history: of the keys, so that their space is used again.
drop_history() {
  local revision
  revision=$(etcdctl_at "$url" get "$load_prefix/keys" --write-out fields | sed -n 's/^"Revision" : //p')
  patience=60 answer_within=50s etcdctl_at "$url" compact "$revision"
}

# generate_load: half a dozen lines a second would be too many: tells every ten seconds how far it is. If nobody reads that any more,
# the step ends here.
generate_load() {
  local began told=0 seconds
  began=$(now)
  generate writes "${spec[writes]}" put --key-size "$KEY_BYTES" --val-size "${spec[value-bytes]}" --sequential-keys --key-space-size "$KEYS"
  generate reads "${spec[reads]}" range "$load_prefix/value" --consistency l
  while at_work writes || at_work reads; do
    sleep 0.2
    seconds=$((($(now) - began) / 1000))
    if ((seconds >= told + 10)); then
      told=$seconds
      say "load: $seconds of ${spec[seconds]} seconds"
    fi
  done
  printf 'began=%s\nended=%s\n' "$began" "$(now)"
  report writes
  report reads
}

now() { date +%s%3N; }

# check_perf: runs etcd's own check, and prints its status and its verdict. It removes its keys in one request, which may fail: end_load
# removes them as well, since they are below $load_prefix. Its --auto-defrag would defragment the leader while it serves.
check_perf() {
  local tls status=0 told=$SECONDS
  set_tls_arguments
  timeout --signal INT --kill-after 60 "$CHECK_PERF_SECONDS" "$binaries_path/etcdctl" --endpoints "${spec[urls]}" --dial-timeout 10s \
    "${tls[@]}" check perf --load "${spec[check-perf]}" --prefix "$load_prefix/check-perf/" >"$load_folder/check_perf.report" 2>&1 &
  echo $! >"$load_folder/check_perf.pid"
  while at_work check_perf; do
    sleep 0.2
    if ((SECONDS >= told + 10)); then
      told=$SECONDS
      say "load: etcdctl check perf --load=${spec[check-perf]} is at work"
    fi
  done
  wait "$(<"$load_folder/check_perf.pid")" || status=$?
  rm -f "$load_folder/check_perf.pid"
  # Its progress is drawn into the first line of its verdict.
  tr '\r' '\n' <"$load_folder/check_perf.report" | grep -aoE '(PASS|FAIL)(:.*)?$|(Slowest request|Stddev) .*$' >"$load_folder/check_perf.verdict" || true
  # It ends with the same status if it checked nothing.
  [[ $(tail -n 1 "$load_folder/check_perf.verdict") =~ ^(PASS|FAIL)$ ]] || fail "etcdctl check perf ended with $status and without a verdict: $(last_words "$(tr '\r' '\n' <"$load_folder/check_perf.report")"). Expected: PASS or FAIL at its end. Run again, without --check-perf for our own verdict alone"
  printf 'check_perf_status=%s\n' "$status"
  sed 's/^/check_perf:/' "$load_folder/check_perf.verdict"
}

# set_tls_arguments: sets `tls` to what the programs need to be clients of the cluster.
set_tls_arguments() {
  tls=()
  [[ ${spec[urls]} != *https:* ]] || tls=(--cacert "$credentials_path/ca.crt" --cert "$credentials_path/$credentials.crt" --key "$credentials_path/$credentials.key")
}

# generate NAME RATE COMMAND ARGUMENTS...: starts `benchmark`, as NAME, with that many requests a second.
generate() {
  local tls rate=$2 clients=$(((spec[clients] + 1) / 2))
  set_tls_arguments
  timeout --signal KILL "${spec[limit-seconds]}" "${spec[program]}" --endpoints "${spec[urls]}" "${tls[@]}" --conns "$clients" \
    --clients "$clients" --precise --sample "${@:3}" --rate "$rate" --total "$((rate * spec[seconds]))" \
    >"$load_folder/$1.report" 2>"$load_folder/$1.errors" &
  echo $! >"$load_folder/$1.pid"
}
is_over() { ! at_work "$1"; }
at_work() { [[ -s $load_folder/$1.pid ]] && kill -0 "$(<"$load_folder/$1.pid")" 2>/dev/null; }

# report NAME: prints how that `benchmark` ended, and each line of its report after the name. It draws its progress on standard error.
report() {
  local status=0
  wait "$(<"$load_folder/$1.pid")" || status=$?
  # For want of room, `benchmark` cuts its report, and does not say so.
  printf '%s\n' "$status" 2>/dev/null >"$load_folder/$1.status" || fail "no room in $load_folder, where \`benchmark\` reports. Expected: a few MiB. Make room there, then run again"
  rm -f "$load_folder/$1.pid"
  printf '%s_status=%s\n' "$1" "$status"
  ((status == 0 || status >= 124)) || fail "benchmark $1 ended with $status: $(last_words "$(tail -c 1000 "$load_folder/$1.errors" | tr '\r' '\n')")"
  sed "s/^/$1:/" "$load_folder/$1.report"
}

# load_sample [client=yes]: prints what this machine and its member have done so far: metrics of etcd, processor and disk of the
# kernel. With client=yes, it runs no member.
load_sample() {
  local device
  read_spec "$@"
  [[ ${spec[client]:-} == yes ]] || member_metrics
  # Numbers of the device, as Linux packs them.
  device=$(stat -L -c %d "$data_path")
  printf 'clock %s\n' "$(now)"
  head -n 1 /proc/stat
  awk -v major="$((device >> 8 & 4095))" -v minor="$((device & 255 | device >> 12 & 1048320))" \
    '$1 == major && $2 == minor { print "disk", $4, $6, $8, $10, $13 }' /proc/diskstats
  printf 'processors %s\n' "$(nproc)"
  printf 'free_mib %s\n' "$(($(df --output=avail -k "$data_path" | tail -n 1) / 1024))"
}

member_metrics() {
  local port found=''
  find_sockets "$(service_pid)"
  for port in $(loopback_ports "$metrics_port"); do
    found=$(http_get "$port" /metrics 5 | grep -aE '^(etcd_disk_(wal_fsync|backend_commit)_duration_seconds_|etcd_network_peer_round_trip_time_seconds_|(etcd_server_request_duration|grpc_server_handling)_seconds_bucket\{[^}]*(type|grpc_method)="(Put|Range)"|etcd_server_(leader_changes_seen_total|is_leader|version|quota_backend_bytes|proposals_failed_total)|etcd_mvcc_db_total_size_in|process_resident_memory_bytes)') || true
    # etcd sorts metrics by name: an answer with the process's is complete.
    [[ $found != *process_resident_memory_bytes* ]] || break
  done
  [[ $found == *process_resident_memory_bytes* ]] || fail "etcd gives no metrics here. Expected: a member that runs. Run \`pulumi up\`, which starts it"
  printf '%s\n' "$found"
}

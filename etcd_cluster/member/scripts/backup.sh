# shellcheck shell=bash
# Backs the cluster up into a store. Every member's timer runs this; the store coordinates them: a backup of a slot, a length of time,
# is made once, by the first member that can. $backup_store: rclone's name of the cluster's folder, such as store:bucket/prefix/TOKEN.
# In it, SLOT-REVISION-MEMBER.db is a snapshot, and .json its manifest, which is written last: what has one is a backup.
# .tested or .failed holds the result of a restore; .keep marks a backup that is never deleted; .begun is a run's note to the others.
# shellcheck disable=SC2154
TAKE_SECONDS=1800   # limit for a snapshot
TURN_SECONDS=60     # a member waits that long for each member that comes before it
BEGUN_SECONDS=600   # and that long for one that has begun
STORE_FAILED=2      # status of what the store did not answer, or refused

# backup [now=yes] [test=yes] [before-restore-of=ID]: makes the backup of this slot, unless there is one; with now=yes in any case, at once.
# before-restore-of=ID notes the cluster whose data are put away next; what is there is kept then, also if members differ. Or backup
# prove=NAME: makes none, and restores that one to test it. Prints what was made, and what passed a restore.
backup() {
  read_spec "$@"
  only_one_run
  remove_leftovers
  backup_folder=$volume_path/backups
  slot=$(slot_now)
  at_exit note_result
  result=failed
  failure_path=$state_path/backup-failure
  rm -f "$failure_path"
  if [[ -n ${spec[prove]:-} ]]; then
    [[ -z $backup_root ]] || require_folder
    listed=$(names) || exit "$FAILED"
    prove "${spec[prove]}"
  else
    claimed=0
    claim_slot || claimed=$?
    case $claimed in
      0) make_backup ;;
      "$STORE_FAILED") keep_local_copy ;;
    esac
  fi
  result=success
  printf 'stored=%s\nproven=%s\n' "${stored:-}" "${proven:-}"
}

only_one_run() {
  must mkdir -p "$state_path"
  exec 8>"$state_path/backup.lock"
  flock --nonblock 8 || fail "a backup is running on this machine already; wait for it"
}

slot_now() {
  local now
  now=$(date +%s)
  if [[ ${spec[now]:-} == yes ]]; then time_of "$now"; else time_of "$((now - now % backup_every))"; fi
}

has_slot() { [[ $listed =~ (^|$'\n')$slot-[0-9]+-[A-Za-z0-9._-]+\.json($'\n'|$) ]]; }

# claim_slot: waits until this member should make the backup, and tells the others; returns 1 as await_turn does, or STORE_FAILED. A
# member tells before it looks again, so of two that begin at once, the later one at least sees the other: it takes its word back,
# and waits again.
claim_slot() {
  local attempt waited_for
  [[ -z $backup_root ]] || (require_folder) || return "$STORE_FAILED"
  learn_metrics # whether this member leads
  if [[ ${spec[now]:-} == yes ]]; then
    list && begin
    return
  fi
  for attempt in 1 2 3; do
    await_turn || return
    waited_for=$(begun_by_others)
    begin || return
    list || return
    ! has_slot || { say "the backup of $slot is there" && return 1; }
    [[ $attempt != 3 && $backup_append_only != yes && $(begun_by_others) != "$waited_for" ]] || return 0
    rclone deletefile "$backup_store/$slot-0-${spec[member]}.begun" >/dev/null 2>&1 || true
  done
}

# await_turn: waits until this member should make the backup; returns 1 once there is one, or if this member is no voter, and
# STORE_FAILED.
await_turn() {
  local rank
  # A store that does not answer now may do so once it is this member's turn.
  if listed=$(names 2>/dev/null) && has_slot; then say "the backup of $slot is there" && return 1; fi
  rank=$(rank) || {
    (($? == 1)) || exit "$FAILED" # it has said why
    say "this member is no voter; others make the backup"
    return 1
  }
  sleep "$((rank * TURN_SECONDS))"
  list || return
  ! has_slot || { say "the backup of $slot is there" && return 1; }
  [[ -z $(begun_by_others) ]] || ! pause=20 wait_until "$BEGUN_SECONDS" made_by_another
}

# rank: prints after how many others it is this member's turn: by their ids, the leader last. A learner has no turn: returns 1.
rank() {
  local id number=0 url found
  [[ ${measured[server_is_learner]:-0} == 0 ]] || return 1
  found=$(voters 2>/dev/null) || fail "etcd does not tell its members. Expected: a cluster with a leader. Run \`pulumi up\`, which says what it lacks (docs/recover.md)"
  [[ ${measured[server_is_leader]} == 0 ]] || { awk 'END { print NR > 1 ? NR : 0 }' < <(printf '%s\n' "$found") && return; }
  while read -r id url; do
    [[ $id != "${measured[server_id]}" ]] || { echo "$number" && return; }
    number=$((number + 1))
  done < <(printf '%s\n' "$found")
  fail "this member is not in the member list. Expected: a member of the cluster. Run \`pulumi up\`"
}

# voters: prints ID URL NAME lines of the voters, by their ids. One that has not told its name yet has its turn as well, without URL.
voters() {
  patience=30 answer_within=25s etcdctl_at "$(own_client_url)" member list | awk -F ', ' '$6 != "true" { sub(/,.*/, "", $5); print $1, $5, $3 }' | sort
}

begun_by_others() { printf '%s\n' "$listed" | grep "^$slot-0-.*\.begun$" | grep -vxF -- "$slot-0-${spec[member]}.begun" || true; }
made_by_another() { listed=$(names) && has_slot; }

# list: sets `listed` to the names in the store.
list() { listed=$(names) || return "$STORE_FAILED"; }

# Tells other members that this one is at work. A store that refuses it refuses the backup.
begin() { (to_store rcat "$backup_store/$slot-0-${spec[member]}.begun" < <(date -u +%FT%TZ)) || return "$STORE_FAILED"; }

# keep_local_copy: ends a run whose store has failed, with the reason; before that, makes a backup on this machine alone. Without a hash
# of the members: while a store is away, each of them does this.
keep_local_copy() {
  local why backup_test=never
  why=$(cat "$failure_path")
  spec[test]=''
  say "makes a local copy alone"
  set +e
  (apart /dev/null take_backup)
  set -e
  printf '%s\n' "$why" >"$failure_path"
  exit "$FAILED"
}

make_backup() {
  learn_unproven
  pause=1 wait_until 60 follows || fail "this member has no leader, so others may have taken writes that it does not know; no backup was made. Expected: a member that reaches a majority. Run \`pulumi up\`, which says what is wrong (docs/recover.md)"
  take_backup
  say "a snapshot of revision $revision is in $backup_folder; sends it to $backup_shown"
  send "$name"
  rm -f "$backup_folder/$name".{db,json}
  stored=$name
  say "backup $name is in the store"
  if [[ -s $state_path/members-differ ]]; then
    [[ -n ${spec[before-restore-of]:-} ]] || fail "$(cat "$state_path/members-differ")"
    say "$(cat "$state_path/members-differ"). That backup is kept, and the restore goes on: it takes the place of what all of them hold"
    return
  fi
  forget_old
  # What is about to be put away needs no proof, and must not end for the lack of one.
  if [[ -z ${spec[before-restore-of]:-} ]] && test_is_due; then prove "$name"; fi
}

# follows: true of a member with a leader. One that is cut off still gives snapshots, of how it was then.
follows() { ask_metrics && [[ ${measured[server_has_leader]:-1} == 1 ]]; }

# take_backup: makes a snapshot and its manifest in the folder of local copies. Sets `name` and `revision`.
take_backup() {
  local file database sum hash
  database=$(stat -c %s "$data_path/member/snap/db")
  must mkdir -p "$backup_folder"
  must chmod 700 "$backup_folder"
  rm -f "$backup_folder"/.new-*
  # The new snapshot, and the next segment of etcd's log.
  require_space "$((database * 11 / 10 / 1048576 + 64))" "$backup_folder"
  file=$backup_folder/.new-$slot.db
  at_exit remove_partial_snapshot
  say "takes a snapshot"
  save_snapshot "$file" "$TAKE_SECONDS"
  # While it is checked: each of them reads all of it.
  exec {sum}< <(sha256 <"$file")
  accept_snapshot "$file" "$TAKE_SECONDS" "$(programs_version)"
  [[ $checked =~ revision\ ([0-9]+) ]] && revision=${BASH_REMATCH[1]}
  rm -f "$state_path/members-differ"
  hash=$(no_hash notAsked)
  if test_is_due; then hash=$(hash_of_members "$revision"); fi
  name=$slot-$revision-${spec[member]}
  (umask 077 && manifest "$name" "$revision" "$file" "$(cat <&"$sum")" "$hash" >"$backup_folder/.new-$name.json") ||
    fail "$backup_folder has no room for a manifest, or cannot be written. Expected: more free space there. Free some space, and run again"
  # Only the newest local copy stays, until it is in the store.
  rm -f "$backup_folder"/*.db "$backup_folder"/*.json
  mv -f "$file" "$backup_folder/$name.db"
  mv -f "$backup_folder/.new-$name.json" "$backup_folder/$name.json"
  sync "$backup_folder"
}
remove_partial_snapshot() { rm -f "$backup_folder"/.new-*; }
programs_version() { basename "$(readlink "$binaries_path")"; }

# send NAME: the manifest last.
send() {
  local kind
  # Without a look for it there: a role that may list below the prefix alone is refused that look for what does not exist.
  for kind in db json; do to_store copyto "$backup_folder/$1.$kind" "$backup_store/$1.$kind" --no-check-dest; done
}

# manifest NAME REVISION FILE SHA256 HASH: prints it. HASH is its fields of the hash, as JSON.
manifest() {
  local before=${spec[before-restore-of]:-}
  printf '{"schema": 1, "name": "%s", "cluster": "%s", "token": "%s", "member": "%s", "version": "%s", "taken": "%s", "revision": %s, "bytes": %s, "sha256": "%s", %s%s}\n' \
    "$1" "$(json_text "$cluster")" "$token" "${spec[member]}" "$(programs_version)" "$(date -u +%FT%TZ)" "$2" \
    "$(stat -c %s "$3")" "$4" "$5" "${before:+, \"beforeRestoreOf\": \"$before\"}"
}

# learn_unproven: takes what proves nothing out of `listed`, and sets `unproven` to the names of these backups: members differed when they
# were made, and a machine that still has an earlier release's program tested them. Reads manifests until one counts.
learn_unproven() {
  local name said
  unproven='' proof_read=yes
  while name=$(printf '%s\n' "$listed" | rule -v explain=1 | awk '$2 ~ /(^|,)tested(,|$)/ { print $1 }') && [[ -n $name ]]; do
    said=$(rclone cat "$backup_store/$name.json" 2>&1) || { proof_read='' && return; }
    [[ $said == *'"hashMissing": "differed"'* ]] || return 0
    unproven+="$name "
    listed=$(printf '%s\n' "$listed" | grep -vxF -e "$name.tested")
  done
}

# test_is_due: true if no backup of this day (week) has passed a restore. One of a clock that was ahead does not count.
test_is_due() {
  local since
  [[ ${spec[test]:-} != yes ]] || return 0
  case $backup_test in
    daily) since=${slot:0:8} ;;
    weekly) since=$(date -u -d "@$(($(date +%s) - 6 * 86400))" +%Y%m%d) ;;
    *) return 1 ;;
  esac
  ! awk -v since="$since" -v slot="$slot" '/\.tested$/ && substr($0, 1, 8) >= since && substr($0, 1, 16) <= slot { found = 1 } END { exit !found }' < <(printf '%s\n' "$listed")
}

# hash_of_members REVISION: prints a manifest's fields of the hash over all keys that every healthy member has at that revision, or why
# there is none. Members are asked in turn, the leader last: each stops applying writes meanwhile. Hashes of different compactions do
# not compare; then all are asked again.
hash_of_members() {
  local id url name said hash compacted members='' first first_compacted
  for _ in 1 2 3; do
    first='' first_compacted='' members=''
    while read -r id url name; do
      [[ -n $name ]] || continue
      said=$(patience=60 answer_within=55s etcdctl_at "$url" endpoint hashkv --rev "$1" --write-out json 2>/dev/null) || continue
      hash=$(sed -n 's/.*"hash":\([0-9]*\).*/\1/p' < <(printf '%s\n' "$said"))
      compacted=$(sed -n 's/.*"compact_revision":\(-\{0,1\}[0-9]*\).*/\1/p' < <(printf '%s\n' "$said"))
      [[ -n $hash ]] || continue
      if [[ -z $first ]]; then first=$hash first_compacted=$compacted; fi
      [[ $compacted == "$first_compacted" ]] || continue 2
      [[ $hash == "$first" ]] || differ "members differ: at revision $1, $name has other keys than ${members%%,*}. Expected: the same keys on all members. Find the one that differs (etcdctl endpoint hashkv --cluster), and let it join anew (docs/space.md)"
      members+=${members:+,}$name
    done < <(voters_leader_last)
    [[ -z $first ]] || { printf '"hash": {"value": %s, "compactRevision": %s, "members": "%s"}' "$first" "${first_compacted:-0}" "$members" && return; }
    break
  done
  no_hash unanswered
}
# no_hash WHY: notAsked, as no test was due; unanswered, as no member answered, or they compacted meanwhile; differed.
no_hash() { printf '"hash": null, "hashMissing": "%s"' "$1"; }
# differ TEXT: the backup is made all the same, without a hash, and the run fails then.
differ() {
  printf '%s\n' "$1" >"$state_path/members-differ"
  no_hash differed
  exit 0
}
voters_leader_last() {
  local id url name leader=''
  while read -r id url name; do
    if [[ $id == "${measured[server_id]}" && ${measured[server_is_leader]} == 1 ]]; then leader="$id $url $name"; else echo "$id $url $name"; fi
  done < <(voters)
  [[ -z $leader ]] || echo "$leader"
}

# Deletes what is no longer kept. A store that refuses it, as without the right to delete, keeps it: no failure.
forget_old() {
  local name said status refused=0
  [[ $backup_append_only != yes ]] || return 0
  [[ $proof_read == yes ]] || { say "deletes no backup: the store did not say what the newest that passed a restore proves" && return; }
  while read -r name; do
    status=0
    said=$(rclone deletefile "$backup_store/$name" 2>&1) || status=$?
    ((status == 0)) || [[ $said == *"not found"* ]] || refused=$((refused + 1))
    ((status != TIMED_OUT)) || break # it would not answer for the others either
  done < <(names | rule)
  ((refused == 0)) || say "the store refused to delete $refused files; they stay there: $(last_words "$said")"
}
# rule [-v NAME=VALUE]: reads names, and prints what is no longer kept.
rule() { awk -v made="$slot" -v member="${spec[member]}" -v last="$keep_last" -v daily="$keep_daily" -v weekly="$keep_weekly" -v unproven="$unproven" "$@" "$retention"; }

# prove NAME: fetches a backup from the store, restores it into a member that only this machine reaches, and compares all keys. The
# result is beside the manifest. A test that could not be made, as of a store that does not answer, is no result; nor is one refused.
prove() {
  local problem=$state_path/test-failure verdict
  say "restores $1 to test it"
  rm -f "$problem" "$state_path/test-verdict"
  set +e # within `if` or `||`, `set -e` would count for nothing in there
  (apart "$problem" judge "$1") >/dev/null 2>&1
  set -e
  verdict=$(cat "$state_path/test-verdict" 2>/dev/null) || true
  case $verdict in
    passed*)
      to_store rcat "$backup_store/$1.tested" < <(date -u +%FT%TZ)
      [[ $listed != *"$1.failed"* ]] || rclone deletefile "$backup_store/$1.failed" >/dev/null 2>&1 || true
      proven=$1
      if [[ $verdict == *equal ]]; then
        say "backup $1 is proven: it restores, and holds the keys that members had"
      else
        say "backup $1 is proven: it restores; there is no hash of its members that its keys could be compared with"
      fi
      ;;
    failed)
      # With the time: where nothing may be deleted, the later result counts.
      to_store rcat "$backup_store/$1.failed" < <(date -u +%FT%TZ && cat "$problem")
      [[ $listed != *"$1.tested"* ]] || rclone deletefile "$backup_store/$1.tested" >/dev/null 2>&1 || true
      fail "backup $1 does not restore: $(last_words "$(cat "$problem")")"
      ;;
    refused)
      is_refused=yes
      # By a machine that still has an earlier release's program.
      [[ $listed != *"$1.tested"* ]] || rclone deletefile "$backup_store/$1.tested" >/dev/null 2>&1 || true
      fail "backup $1 proves nothing: $(cat "$problem")"
      ;;
    *) fail "backup $1 could not be tested: $(last_words "$(cat "$problem" 2>/dev/null || echo "the test was stopped. Run it again")")" ;;
  esac
}
judge() {
  # shellcheck disable=SC2034  # for proof.sh
  as_proof=yes
  restored_equal "$1"
  echo "passed${equal:+, equal}" >"$state_path/test-verdict"
}

# apart FILE COMMAND...: runs it as a step of its own, in a shell of its own; the reason of its failure is in FILE then.
apart() {
  # shellcheck disable=SC2034  # for end_step
  failure_path=$1 exits=''
  as_step "${@:2}"
}

# note_result: leaves what came of this run for observe.sh. Of a store that could not be listed, what it had last time stays.
note_result() {
  local run=backup newest tested copy failure attempt
  newest=$(latest json "${stored:-}") tested=$(latest tested "${proven:-}")
  tested=${tested:-$(noted tested)}
  [[ " ${unproven:-}" != *" $tested "* ]] || tested=''
  copy=$(local_copy) attempt=$(date +%s)
  failure=$(tail -n 1 "${failure_path:-}" 2>/dev/null) || true
  failure+=${failure:+${copy:+. The newest local copy is $copy, in $backup_folder}}
  if [[ -n ${spec[prove]:-} ]]; then
    run='test'
    # That a backup passes, or is no proof, makes up for no run that should have made one.
    if [[ -n ${is_refused:-} || ($(noted result) == failed && $(noted run) != test) ]]; then
      run=$(noted run) attempt=$(noted attempt) result=$(noted result) failure=$(noted failure)
    fi
  fi
  # A reader sees the whole file or the one before.
  {
    printf 'run=%s\nattempt=%s\nresult=%s\n' "$run" "$attempt" "$result"
    [[ $result == success || -z $failure ]] || printf 'failure=%s\n' "$failure"
    printf 'newest=%s\ntested=%s\nlocal=%s\n' "${newest:-$(noted newest)}" "$tested" "$copy"
  } >"$state_path/.new-backup" && mv -f "$state_path/.new-backup" "$state_path/backup"
  # The service is no longer failed, by whatever ran before: see observe.sh.
  [[ $supervisor != systemd || $result != success ]] || systemctl reset-failed etcd-cluster-backup.service 2>/dev/null || true
}
# local_copy: prints the name of the newest backup that this machine holds itself.
local_copy() { find "$backup_folder" -name '[0-9]*.json' -printf '%f\n' 2>/dev/null | sort | tail -n 1 | sed 's/\.json$//' || true; }
# latest KIND NAME: prints the newest backup with a file of that kind in the store, NAME included. None is of the future.
latest() {
  printf '%s\n' "${listed:-}" "${2:+$2.$1}" | sed -n "s/^\([0-9TZ]*-[0-9]*-[A-Za-z0-9._-]*\)\.$1\$/\1/p" |
    awk -v now="$(time_of "$(date +%s)")" 'substr($0, 1, 16) <= now' | sort | tail -n 1
}
noted() { sed -n "s/^$1=//p" "$state_path/backup" 2>/dev/null || true; }

# shellcheck shell=bash
# Makes room in the database: compacts its history, and defragments the database of a member that is stopped.
# shellcheck disable=SC2154

# compact kept=NUMBER timeout-seconds=SECONDS: deletes what keys held before the newest revisions. Safe to repeat: a revision that has
# been compacted counts as done.
compact() {
  local url now='' revision said began
  read_spec "$@"
  lock
  require_claim
  find_client_url
  if said=$(etcdctl_at "$url" endpoint status --write-out json 2>/dev/null); then now=$(sed -n 's/.*"revision":\([0-9]*\).*/\1/p' < <(printf '%s\n' "$said")); fi
  [[ $now =~ ^[0-9]+$ ]] || fail "\`etcdctl endpoint status\` says no revision. Expected: the number of the last one. Look at the member's log (journalctl -u etcd-cluster) and run again"
  revision=$((now - spec[kept]))
  say "${spec[say]}"
  # shellcheck disable=SC2034  # for etcdctl_at
  patience=$((spec[timeout-seconds] + 10)) answer_within=${spec[timeout-seconds]}s began=$SECONDS
  if ! said=$(etcdctl_at "$url" compact --physical "$revision" 2>&1) && [[ $said != *"required revision has been compacted"* ]]; then
    fail "etcdctl compact $revision: $(last_words "$said"). Expected: no failure. Look at the member's log (journalctl -u etcd-cluster) and run again"
  fi
  # The other members began at the same time, and say nothing of their end.
  sleep $((SECONDS - began + 1))
  say "compacted to revision $revision of $now"
}

# defragment: writes the database anew, without free pages. Precondition: the member is stopped, and there is room for the copy. It starts
# again in any case: a failure is told once it runs, see conclude_defragmentation. While a run that was cut off still does this, its lock
# (file 9, which the tool inherits) holds off the next start.
defragment() {
  local as=() tool=$binaries_path/etcdutl
  [[ -x $tool ]] || tool=$binaries_path/etcdctl # of 3.4
  [[ $supervisor != systemd ]] || as=(setpriv --reuid "$(id -u etcd)" --regid "$(id -g etcd)" --clear-groups)
  database_before=$(database_mib) defragmentation_failed=''
  rm -f "$data_path"/member/snap/db.tmp* # of one that was cut off
  defragmentation_failed=$(ETCDCTL_API=3 "${as[@]}" "$tool" defrag --data-dir "$data_path" 2>&1 >/dev/null) && defragmentation_failed='' ||
    defragmentation_failed=${defragmentation_failed:-it ended without a word}
  sync "$data_path/member/snap"
}

database_mib() { echo "$(($(stat -c %s "$data_path/member/snap/db") / 1024 / 1024))"; }

# Notes what is still free in the new database, which no defragmentation gets back, and what it holds.
conclude_defragmentation() {
  [[ -z $defragmentation_failed ]] || fail "its database could not be defragmented: $(last_words "$defragmentation_failed"). Expected: a database without free pages. The member runs again; check its disk, then run again"
  say "defragmented its database: $database_before MiB before, $(database_mib) MiB now"
  metrics "$metrics_port" || return 0
  put_file 644 "$(id -un)" "$state_path/defragmented" "$(printf '%s\n' "${measured[mvcc_db_total_size_in_bytes]}" "${measured[mvcc_db_total_size_in_use_in_bytes]}" \
    "${measured[debugging_mvcc_current_revision]}" "${measured[debugging_mvcc_compact_revision]}" |
    awk '{ value[NR] = $1 < 0 ? 0 : $1 } END { printf "%.0f %.0f %.0f", value[1] - value[2], value[3], value[4] }' | base64 -w 0)" || true
}

# shellcheck shell=bash
# One member's turn: where what it should be differs from what runs, it is restarted; then it has to become healthy.
# Turns are taken one after the other, so that at most one member is ever down because of us.
# shellcheck disable=SC2154
roll() {
  read_spec "$@"
  lock
  if needs_restart; then restart_member; fi
  wait_until "${spec[timeout]}" healthy_or_fail || fail_with_log "not healthy after ${spec[timeout]} seconds"
  wait_until "${spec[timeout]}" caught_up || fail_with_log "healthy, but still behind the leader after ${spec[timeout]} seconds"
  mark_formed # an earlier run may have been cut short right after it had started the member
  say "healthy, etcd $version"
}

healthy_or_fail() { healthy "$own_client_url" || { service_failed && fail_with_log "etcd does not run"; }; }

# Preconditions: every other member is healthy, so that quorum is kept without this one; and another one leads.
# A member that was started a moment ago gets the time for that.
restart_member() {
  local other
  for other in $(other_client_urls); do
    wait_until 30 healthy "$other" || fail "not restarted, because the member at $other is not healthy; mend that first, then run again"
  done
  give_leadership_to "$(leader_meanwhile)"
  say "restarting with etcd $version"
  activate
  service_restart
  rm -f "$state_path/pending"
}

other_client_urls() {
  local candidate
  for candidate in $client_urls; do [[ $candidate == "$own_client_url" ]] || echo "$candidate"; done
}

# The last in the order leads until its own turn, then the first, whose turn is over: followers before the leader.
leader_meanwhile() {
  if [[ $client_urls == *"$own_client_url" ]]; then
    other_client_urls | head -n 1
  else
    other_client_urls | tail -n 1
  fi
}

# give_leadership_to CLIENT_URL (none in a cluster of one)
give_leadership_to() {
  local id
  if [[ -z $1 || $(status_field "$1" Leader) == "$(status_field "$1" MemberID)" ]]; then return 0; fi
  # move-leader takes the id as `member list` shows it: in hexadecimal.
  id=$(etcdctl_at "$1" member list | awk -F ', ' -v url="$1" '$5 == url { print $1 }')
  say "moving leadership to $1 first"
  etcdctl_at "$(healthy_client_urls)" move-leader "$id" >/dev/null ||
    fail "not restarted, because leadership could not be moved to $1; run again"
}

# Without ourselves, if we are what has to be mended: move-leader asks them all who leads, and gives up at the first failure.
healthy_client_urls() {
  local urls
  urls=$(other_client_urls | paste -sd , -)
  if healthy "$own_client_url"; then urls+=,$own_client_url; fi
  echo "$urls"
}

# At most a few entries behind the most advanced member that answers.
caught_up() {
  { etcdctl_at "${client_urls// /,}" endpoint status --write-out fields 2>/dev/null || true; } |
    awk -F ' : ' -v own="\"$own_client_url\"" '
      $1 == "\"RaftAppliedIndex\"" { applied = $2 + 0; if (applied > most) most = applied }
      $1 == "\"Endpoint\"" && $2 == own { ours = applied }
      END { exit !(ours && ours + 100 >= most) }'
}

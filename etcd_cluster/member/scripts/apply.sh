# shellcheck shell=bash
# Puts a member's files in place, and starts, restarts or stops it. $manifest: MODE OWNER CONTENT(base64) PATH lines.
# shellcheck disable=SC2154

apply() {
  read_spec "$@"
  lock
  require_claim
  make_file_folders
  case ${spec[action]} in
    files)
      [[ -z $manifest ]] || say "${spec[say]}"
      if [[ ${spec[pending]:-} == yes ]]; then mark_pending; fi
      put_files
      ;;
    restart) restart_member ;;
    start) start_member ;;
    stop)
      say "${spec[say]}"
      service_stop
      say "stopped; its data stays in $volume_path"
      if [[ ${spec[archive-old-data]:-} == yes ]]; then archive_old_data; fi
      ;;
  esac
  # Only beside data: a history on the file system below the mount point would count as data there.
  if has_data; then
    if [[ -n ${history:-} ]]; then put_history; fi
    note_data
    rm -f "$configuration_path/bootstrap.yaml"
  fi
}

# The mark says that the process may be older than the files. The next start removes the mark.
mark_pending() {
  touch "$state_path/pending"
  sync "$state_path"
}

activate() {
  mark_pending
  put_files
  ln -sfn "$versions_path/${spec[version]}" "$binaries_path.new"
  mv -fT "$binaries_path.new" "$binaries_path"
}

put_files() {
  local mode user path content
  while read -r mode user content path; do
    [[ -n $mode ]] || continue
    case $path in
      /etc/systemd/system/*) put_unit "${path##*/}" "$content" ;;
      *) put_file "$mode" "$user" "$path" "$content" || true ;;
    esac
  done < <(printf '%s\n' "$manifest") # a here-string of this size would be a file in /tmp, and it holds keys
}

# Preconditions, which the caller checks: every other member is healthy, this one does not lead (or is the only member),
# and its data allow the version.
restart_member() {
  require_startable
  [[ -z ${spec[defragment-mib]:-} ]] || require_space "$((spec[defragment-mib] + LOG_SEGMENT_MIB))" "$data_path"
  say "${spec[say]} with etcd ${spec[version]}"
  keep_settings
  service_stop
  at_exit put_back
  activate
  [[ -z ${spec[defragment-mib]:-} ]] || defragment
  service_start
  rm -f "$state_path/pending"
  await_member
  not_at_exit put_back
  [[ -z ${spec[defragment-mib]:-} ]] || conclude_defragmentation
}

# Keeps what the member has run with.
keep_settings() {
  earlier_programs=$(readlink "$binaries_path") || true
  earlier_configuration='' earlier_certificates=$(certificates)
  ! has_leader || earlier_configuration=$(base64 -w 0 "$configuration_path/etcd.yaml" 2>/dev/null) || true
  earlier_unit=$(base64 -w 0 "${unit_path:-}" 2>/dev/null) || true
}

# Of some settings, only a start tells that etcd does not take them. The member that tried them gets its earlier ones back, so that
# it serves until they are corrected. Not after another version has run, which may have changed the data, nor with other
# certificates, which may be for another address.
put_back() {
  trap '' PIPE HUP TERM # the connection may be gone, and nobody read what it says
  service_failed && [[ $(readlink "$binaries_path") == "$earlier_programs" ]] && settings_differ || return 0
  service_stop
  put_file 640 member "$configuration_path/etcd.yaml" "$earlier_configuration" || true
  [[ -z $earlier_unit ]] || put_unit "${unit_path##*/}" "$earlier_unit"
  service_start
  if wait_until 60 has_leader; then say "its earlier settings are back, and it runs with them"; else say "its earlier settings are back"; fi
}

settings_differ() {
  [[ -n $earlier_configuration && $(certificates) == "$earlier_certificates" ]] &&
    { file_differs "$configuration_path/etcd.yaml" "$earlier_configuration" || { [[ -n $earlier_unit ]] && file_differs "$unit_path" "$earlier_unit"; }; }
}

certificates() { sha256sum "$pki_path"/*.crt 2>/dev/null || true; }

has_leader() { metrics "$metrics_port" && [[ ${measured[server_has_leader]} == 1 ]]; }

# Stops no member that could not start again. On a full disk a running member goes on for a while, but no member starts:
# at its start, etcd creates the next segment of its log.
require_startable() {
  [[ $supervisor != systemd ]] || require_own_service
  require_space "$LOG_SEGMENT_MIB" "$volume_path"
  require_space 1 "$configuration_path" "$pki_path" "$state_path"
  [[ -x $versions_path/${spec[version]}/etcd ]] || fail "etcd ${spec[version]} is not there any more; nothing was stopped. Run again, which brings it back"
}

# The member does not run, so its start takes no vote from a quorum.
start_member() {
  local held
  require_startable
  held=$(held_by_others "$client_port" "$peer_port" "$metrics_port" | paste -sd ';')
  [[ -z $held ]] || fail "$held. Expected: free ports. Stop that program, then run again"
  if [[ ${spec[archive-old-data]:-} == yes ]]; then archive_old_data; fi
  rm -rf "$volume_path/restoring" # of a restore that nobody went on with: this member has data again
  make_data_folder
  activate
  say "${spec[say]} with etcd ${spec[version]}"
  if ! has_data; then
    if [[ -n ${history:-} ]]; then put_history; fi
    note forming
    at_exit conclude_first_start
  fi
  service_start
  rm -f "$state_path/pending"
  await_member
}

# After a start without data, whether it succeeded or not: removes the file with which etcd could form or join once more. If
# etcd is stopped and has written nothing, no data can be lost, and the machine counts as unused.
conclude_first_start() {
  if ((ended != 0)) && { ! has_data || is_unused_log; }; then
    service_stop
    if is_unused_log; then rm -rf "$data_path/member"; fi
    if holds_data; then
      note_data
    else
      rm -f "$volume_path/history" "$state_path/forming"
    fi
  elif has_data && ! is_unused_log; then
    note_data
  else
    return 0
  fi
  rm -f "$configuration_path/bootstrap.yaml"
}

# Keeps the data of an earlier membership, under another name.
archive_old_data() {
  local kept
  kept=$data_path.removed-$(date -u +%Y%m%dT%H%M%SZ)
  if holds_data; then
    mv -T "$data_path" "$kept"
    say "archived the data of its earlier membership as $kept"
  fi
  rm -f "$state_path/defragmented"
  rm -f "$volume_path/history" # last: it tells whose the data are
}

await_member() {
  local timeout=${spec[timeout-seconds]}
  case ${spec[until]} in
    listening) wait_until "$timeout" listens_or_ends || fail_with_log "etcd does not listen on its peer port after $timeout seconds" ;;
    flushed)
      wait_until "$timeout" serves_or_fail || fail_with_log "not in the cluster, or behind the leader, after $timeout seconds"
      wait_until "$timeout" flushed || fail "its newest snapshot (index $(newest_snapshot)) did not pass index ${spec[index]} within $timeout seconds"
      ;;
    serving) wait_until "$timeout" serves_or_fail || fail_with_log "not in the cluster, or behind the leader, after $timeout seconds" ;;
  esac
}

listens_or_ends() {
  ! has_data || is_unused_log || ! listening "${spec[peer-port]}" || return 0
  service_failed || return 1
  [[ ${spec[may-end]:-} == yes ]] || fail_with_log "etcd does not start"
  say "etcd ends after each start, and is stopped"
  service_stop
}

# The member has a leader or leads, has applied everything that the cluster had when this step began, and listens on its
# own peer port.
serves_or_fail() {
  if metrics "$metrics_port" && [[ ${measured[server_has_leader]} == 1 ]] &&
    awk -v applied="${measured[server_proposals_applied_total]}" -v asked="${spec[index]:-0}" 'BEGIN { exit !(applied + 0 >= asked + 0) }' &&
    find_sockets "$(service_pid)" && [[ $(loopback_ports "$metrics_port") == "$metrics_port "* ]]; then
    return 0
  fi
  service_failed && fail_with_log "etcd does not run"
}

flushed() { [[ $(newest_snapshot) -ge ${spec[index]} ]]; }

# The index that etcd's snapshot has to reach before the next minor version: see upgrade.sh.
put_history() {
  put_file 644 "$(id -un)" "$volume_path/history" "$history" || true
  sync "$volume_path"
}

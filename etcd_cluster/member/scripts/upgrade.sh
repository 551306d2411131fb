# shellcheck shell=bash
# Steps before a member runs another version of etcd.
# shellcheck disable=SC2154
KEPT_SNAPSHOTS=3

# Takes a snapshot of the data into a folder beside them. It gets its name once it is complete and checked. Keeps the newest three.
snapshot() {
  local folder=$volume_path/snapshots target checked
  read_spec "$@"
  lock
  require_claim
  if [[ ${spec[may-be-silent]:-} == yes ]] && ! answers_clients; then
    say "has no leader and answers no client, so there is no snapshot of it; its data stay"
    return
  fi
  target=$folder/${spec[file]}
  mkdir -p "$folder"
  chmod 700 "$folder"
  rm -f "$folder"/.new-*
  require_space "$((spec[database-mib] + 64))" "$folder"
  say "taking a snapshot into $target"
  take_snapshot "$folder/.new-${spec[file]}" "${spec[timeout-seconds]}" "${spec[version]}"
  mv -f "$folder/.new-${spec[file]}" "$target"
  sync "$folder"
  say "snapshot checked: $checked"
  find "$folder" -name '*.db' -printf '%T@ %p\n' | sort -rn | tail -n "+$((KEPT_SNAPSHOTS + 1))" | cut -d ' ' -f 2- | xargs -r -d '\n' rm -f
}

# Checks whether 3.6 can start from the log and the v2 store of 3.5. Prints "clean", "log" or "store".
v2store() {
  local said programs=$binaries_path
  read_spec "$@"
  [[ -x $programs/etcdutl ]] || programs=$(running_programs)
  said=$(timeout "${spec[timeout-seconds]}" "$programs/etcdutl" check v2store --data-dir "$data_path" 2>&1) && { echo clean && return 0; }
  case $said in
    *"both v2store and WAL"* | *"custom content in v2store"*) echo store ;;
    *"custom v2 content in WAL"*) echo log ;;
    *) fail "etcdutl check v2store: $(tail -n 1 < <(printf '%s\n' "$said") | cut -c1-300)" ;;
  esac
}

# shellcheck shell=bash
# Steps before a member runs another version of etcd.
# shellcheck disable=SC2154
KEPT_SNAPSHOTS=3

# Takes a snapshot of the data into a folder beside them. It gets its name once it is complete and checked. Keeps the newest three.
snapshot() {
  local folder=$volume_path/snapshots target checked url
  read_spec "$@"
  lock
  require_claim
  target=$folder/${spec[file]}
  mkdir -p "$folder"
  chmod 700 "$folder"
  rm -f "$folder"/.new-*
  require_space "$((spec[database-mib] + 64))" "$folder"
  say "taking a snapshot into $target"
  patience=${spec[timeout-seconds]}
  find_sockets "$(service_pid)"
  url=$(own_client_url) || fail "etcd listens on no port for clients here; nothing was upgraded. Look at its log (journalctl -u etcd-cluster) and run again"
  etcdctl_at "$url" snapshot save "$folder/.new-${spec[file]}" >/dev/null 2>&1 || fail "the snapshot could not be taken; nothing was upgraded. Look at the member's log (journalctl -u etcd-cluster) and run again"
  checked=$(check_snapshot "$folder/.new-${spec[file]}") || fail "the snapshot is damaged ($checked); nothing was upgraded: run again, and check this machine's disk"
  chmod 600 "$folder/.new-${spec[file]}"
  sync "$folder/.new-${spec[file]}"
  mv -f "$folder/.new-${spec[file]}" "$target"
  sync "$folder"
  say "snapshot checked: $checked"
  find "$folder" -name '*.db' -printf '%T@ %p\n' | sort -rn | tail -n "+$((KEPT_SNAPSHOTS + 1))" | cut -d ' ' -f 2- | xargs -r -d '\n' rm -f
}

# check_snapshot FILE: prints what it holds; if it is damaged, returns 1 and prints why. `snapshot status` compares no sum.
check_snapshot() {
  sum_fits "$1" || { echo "its SHA-256 does not fit" && return 1; }
  snapshot_status "$1"
}

# sum_fits FILE: a snapshot is a database, a whole number of 512-byte blocks, and then its SHA-256.
sum_fits() {
  (($(stat -c %s "$1") % 512 == 32)) &&
    [[ $(head -c -32 "$1" | sha256sum | cut -d ' ' -f 1) == "$(tail -c 32 "$1" | od -An -v -tx1 | tr -d ' \n')" ]]
}

# With the newer version's tool: etcdutl, or etcdctl before 3.5.
snapshot_status() {
  local tool=$versions_path/${spec[version]}/etcdutl status
  [[ -x $tool ]] || tool=$binaries_path/etcdctl
  status=$(ETCDCTL_API=3 timeout "$patience" "$tool" snapshot status "$1" --write-out json 2>&1) || {
    tail -n 1 < <(printf '%s\n' "$status") | cut -c1-300
    return 1
  }
  # An old etcdctl prints its help and exits with 0.
  sed -n 's/^{"hash":\([0-9]*\),"revision":\([0-9]*\),"totalKey":\([0-9]*\),.*/hash \1, revision \2, \3 keys/p' < <(printf '%s\n' "$status") | grep .
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

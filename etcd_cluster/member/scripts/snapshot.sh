# shellcheck shell=bash
# Takes and checks snapshots of etcd's data.
# shellcheck disable=SC2154

# answers_clients: false of a member that has started without a quorum (seen with 3.4 to 3.6).
answers_clients() {
  local url
  find_client_url
  patience=12 answer_within=8s etcdctl_at "$url" endpoint status >/dev/null 2>&1
}

# take_snapshot FILE SECONDS VERSION: writes a snapshot of this member, complete and checked, or fails. Sets `checked` to what it holds.
take_snapshot() {
  save_snapshot "$1" "$2"
  accept_snapshot "$@"
}

# save_snapshot FILE SECONDS
save_snapshot() {
  local url said
  find_client_url
  said=$(patience=$2 answer_within=${2}s etcdctl_at "$url" snapshot save "$1" 2>&1 >/dev/null) || {
    [[ $said != *"no space left"* ]] || fail "${1%/*} is full: the snapshot had no room. Expected: more free space there. Free some space, and run again"
    # Its error is the last line; lines of its log are before that.
    said=${said##*$'\n'}
    [[ $said != *"rpc error"* ]] || ! is_refusal "$said" || fail "etcd's authentication is on, and no user of role root has the name in the certificate of this member, which may not take a snapshot. Expected: such a user. Run \`pulumi up\`, which says how to make it (docs/users.md)"
    fail "the snapshot could not be taken: $(last_words "$said"). Look at the member's log (journalctl -u etcd-cluster) and run again"
  }
}

# accept_snapshot FILE SECONDS VERSION
accept_snapshot() {
  checked=$(check_snapshot "$1" "$2" "$3") || fail "the snapshot is damaged ($checked): run again, and check this machine's disk"
  chmod 600 "$1"
  sync "$1"
}

# check_snapshot FILE SECONDS VERSION: prints what it holds; if it is damaged, returns 1 and prints why. `snapshot status` compares no sum.
# Both read all of it, so they do it at the same time.
check_snapshot() {
  local fits said status=0
  exec {fits}< <(! sum_fits "$1" || echo yes)
  said=$(snapshot_status "$@") || status=$?
  [[ $(cat <&"$fits") == yes ]] || { echo "its SHA-256 does not fit" && return 1; }
  printf '%s\n' "$said"
  return "$status"
}

# sum_fits FILE: a snapshot is a database, a whole number of 512-byte blocks, and then its SHA-256.
sum_fits() {
  (($(stat -c %s "$1") % 512 == 32)) &&
    [[ $(head -c -32 "$1" | sha256) == "$(tail -c 32 "$1" | od -An -v -tx1 | tr -d ' \n')" ]]
}

# sha256: prints the sum of what it reads. openssl, if it works here, takes a fifth of the time of a sha256sum before 9.5: it uses
# the processor's own instructions.
sha256() {
  local program=(sha256sum)
  [[ $(openssl dgst -sha256 -r </dev/null 2>/dev/null) != e3b0c44298fc1c149afbf4c8996fb924* ]] || program=(openssl dgst -sha256 -r)
  "${program[@]}" | cut -d ' ' -f 1
}

# snapshot_status FILE SECONDS VERSION: with the tool of that version: etcdutl, or etcdctl before 3.5.
snapshot_status() {
  local tool=$versions_path/$3/etcdutl status
  [[ -x $tool ]] || tool=$binaries_path/etcdctl
  status=$(ETCDCTL_API=3 timeout "$2" "$tool" snapshot status "$1" --write-out json 2>&1) || {
    tail -n 1 < <(printf '%s\n' "$status") | cut -c1-300
    return 1
  }
  # An old etcdctl prints its help and exits with 0.
  sed -n 's/^{"hash":\([0-9]*\),"revision":\([0-9]*\),"totalKey":\([0-9]*\),.*/hash \1, revision \2, \3 keys/p' < <(printf '%s\n' "$status") | grep .
}

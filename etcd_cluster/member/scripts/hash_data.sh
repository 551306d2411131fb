# shellcheck shell=bash
# Tells what data a member holds that does not stay up with them, so that they can be compared with the others'.
# shellcheck disable=SC2154
HASH_SECONDS=600

# hash_data: stops this member, and prints HASH COMPACTED REVISION: the hash of its keys up to their last revision, and up to where their
# history is compacted, as a member apart has them that starts from a copy of its database. Prints nothing if none does: nobody can tell
# then. Nothing is changed.
hash_data() {
  read_spec "$@"
  lock
  require_claim
  say "${spec[say]}"
  service_stop # systemd starts it again and again
  exec 8>"$state_path/backup.lock"
  flock --wait 60 8 || return 0 # a backup that still uploads
  remove_leftovers
  # shellcheck disable=SC2034  # for as_step
  exits=''
  set +e # within `if` or `||`, `set -e` would count for nothing in there
  (as_step hash_apart) 2>/dev/null
  set -e
}

hash_apart() {
  local file=$data_path/member/snap/db said revision
  # shellcheck disable=SC2034  # for proof.sh
  unsummed=(--skip-hash-check)
  said=$(snapshot_status "$file" "$HASH_SECONDS" "$(basename "$(readlink "$binaries_path")")")
  [[ $said =~ revision\ ([0-9]+) ]]
  revision=${BASH_REMATCH[1]}
  scratch=$(scratch_folder "$(stat -c %s "$file")")
  at_exit remove_scratch
  restore_from "$file" "$scratch/data"
  start_scratch
  said=$(scratch_hash "$revision")
  [[ -z $said ]] || echo "$said $revision"
}

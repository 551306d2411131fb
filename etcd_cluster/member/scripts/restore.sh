# shellcheck shell=bash
# Brings a backup into the first member of a new cluster. Its data get another cluster's id, so no member of the cluster that was
# backed up can join. Nothing of this runs where data are.
# shellcheck disable=SC2154
BUMP=1000000000 # revisions: no client has seen one from there on, so every watch starts anew

# find_backup backup=latest|NAME|TOKEN/NAME series=X.Y: prints TOKEN/NAME of the backup, once its manifest shows that it can be restored.
find_backup() {
  local found manifest
  read_spec "$@"
  lock
  write_backup_files
  found=$(resolve "${spec[backup]}")
  manifest=$(rclone cat "$backup_parent/$found.json" 2>&1) || fail "$(store_problem "$manifest")"
  require_restorable "$found"
  printf '%s' "$found"
}

# resolve FROM: prints TOKEN/NAME. `latest` is the newest backup of a cluster of this name, whatever its token.
resolve() {
  local listed said found='' line
  [[ $1 != */* ]] || { echo "$1" && return; }
  if ! said=$(rclone lsf --recursive --files-only --include '*.json' "$backup_parent" 2>&1); then fail "$(store_problem "$said")"; fi
  listed=$(printf '%s\n' "$said" | sed -n 's|^\([0-9a-f]*/[0-9TZ]*-[0-9]*-[A-Za-z0-9._-]*\)\.json$|\1|p' | sort -t / -k 2,2r)
  # One of the future is of a clock that was ahead.
  if [[ $1 == latest ]]; then listed=$(awk -F / -v now="$(time_of "$(($(date +%s) + 3600))")" 'substr($2, 1, 16) <= now' < <(printf '%s\n' "$listed")); fi
  [[ -n $listed ]] || fail "restoreFrom: $1: there is no backup in $backup_shown. Expected: at least one. Correct backup.to"
  if [[ $1 != latest ]]; then
    found=$(awk -v name="/$1" 'substr($0, length($0) - length(name) + 1) == name' < <(printf '%s\n' "$listed"))
    [[ -n $found ]] || fail "restoreFrom: $1: there is no such backup in $backup_shown. Expected: one of those there; the newest is $(head -n 1 < <(printf '%s\n' "$listed")). Correct the name"
    [[ $found != *$'\n'* ]] || fail "restoreFrom: $1: several clusters have a backup of that name: $(last_words "$found"). Expected: one backup. Write TOKEN/NAME"
    echo "$found"
    return
  fi
  # All manifests by one call. What it names has to be in the list, and its own manifest is read again.
  if ! said=$(rclone cat --include '*.json' --separator $'\n' "$backup_parent" 2>&1 | tr -d '\0'); then
    # Another cluster may be there that is encrypted, and this one not, or otherwise.
    is_other_encryption "$said" || fail "$(store_problem "$said")"
  fi
  found=$(printf '%s\n' "$said" | grep -aF "\"cluster\": \"$(json_text "$cluster")\"" | sed -n 's/.*"name": "\([^"]*\)".*"token": "\([^"]*\)".*/\2\/\1/p') || true
  while read -r line; do
    [[ $'\n'$found$'\n' != *$'\n'$line$'\n'* ]] || { echo "$line" && return; }
  done < <(printf '%s\n' "$listed")
  ! is_other_encryption "$said" || fail "$(store_problem "$said")"
  fail "restoreFrom: latest: no backup in $backup_shown is of $cluster. Expected: at least one. Write TOKEN/NAME; the newest of another cluster is $(head -n 1 < <(printf '%s\n' "$listed"))"
}

# require_restorable FOUND: $manifest is its manifest. An older minor version of etcd cannot read the data of a newer one.
require_restorable() {
  local version
  version=$(field version)
  if [[ ! $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ || ! $(field sha256) =~ ^[0-9a-f]{64}$ ]] || ! is_manifest_of "${1##*/}"; then
    fail "restoreFrom: the manifest of $1 is damaged. Expected: its name, version and sha256. Choose another backup"
  fi
  [[ $(printf '%s\n' "${version%.*}" "${spec[series]}" | sort -V | tail -n 1) == "${spec[series]}" ]] || fail "restoreFrom: $1 is of etcd $version. Expected: ${spec[series]} or older. Set version to ${version%.*} or later"
}

# restore backup=TOKEN/NAME url=PEER_URL version=X.Y.Z: fetches the backup, proves it as a backup's test does, and restores it as data.
# The data folder is complete or absent.
restore() {
  local new said bump=()
  read_spec "$@"
  lock
  require_claim
  ! holds_data || fail "$data_path holds data. Expected: none, where a backup is restored. Take restoreFrom out to go on with the data"
  say "${spec[say]}"
  remove_leftovers
  write_backup_files
  make_data_folder
  # shellcheck disable=SC2034  # for backup.sh
  binaries_path=$versions_path/${spec[version]} backup_store=$backup_parent/${spec[backup]%/*}
  restored_equal "${spec[backup]##*/}"
  stop_scratch
  new=$data_path.new-restore
  rm -rf "$new"
  ! bumps || bump=(--bump-revision "$BUMP" --mark-compacted)
  said=$(ETCDCTL_API=3 "$(restoring_tool)" snapshot restore "$scratch/db" --data-dir "$new" --name "${spec[member]}" --initial-cluster "${spec[member]}=${spec[url]}" \
    --initial-advertise-peer-urls "${spec[url]}" --initial-cluster-token "$token" "${bump[@]}" 2>&1) || fail "it does not restore: $(last_words "$said")"
  [[ $supervisor != systemd ]] || chown -R etcd: "$new"
  chmod 700 "$new"
  # Which backup it is, for a run that goes on with another one in its config.
  put_file 644 "$(id -un)" "$volume_path/restored" "$(printf '%s' "${spec[backup]}" | base64 -w 0)" || true
  sync
  rmdir "$data_path"
  mv -T "$new" "$data_path"
  sync "$volume_path"
  say "restored ${spec[backup]##*/}, of revision $(field revision)"
}

restoring_tool() { if [[ -x $binaries_path/etcdutl ]]; then echo "$binaries_path/etcdutl"; else echo "$binaries_path/etcdctl"; fi; }
# True if that tool can bump revisions: from 3.4.27, 3.5.10 and 3.6 on.
bumps() { ETCDCTL_API=3 "$(restoring_tool)" snapshot restore --help 2>&1 | grep -q -e --bump-revision; }

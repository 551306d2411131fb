# shellcheck shell=bash
# Brings a snapshot into a member: the first one of a new cluster, or one whose cluster it takes the place of. Its data get another
# cluster's id, so no member of the cluster that was backed up can join. Where data are, they are renamed, and none is deleted.
# The snapshot is a backup in the store (backup=TOKEN/NAME, with latest=KEY if that key of the stack says `latest`), a file that was sent
# here (file=PATH sha256=SUM, with bare=yes for one without etcd's own sum at its end), or what this member has itself (snapshot=yes).
# shellcheck disable=SC2154
BUMP=1000000000 # revisions: no client has seen one from there on, so every watch starts anew
SNAPSHOT_SECONDS=1800
restoring_path=$volume_path/restoring

# find_backup backup=latest|NAME|TOKEN/NAME series=X.Y [key=KEY]: prints TOKEN/NAME of the backup, once its manifest shows that it can be
# restored.
find_backup() {
  local found manifest
  read_spec "$@"
  lock
  open_store
  found=$(resolve "${spec[backup]}")
  manifest=$(rclone cat "$backup_parent/$found.json" 2>&1) || fail "$(store_problem "$manifest")"
  [[ ${spec[backup]} != latest || -z $(field beforeRestoreOf) ]] || fail "${spec[key]:-restoreFrom}: latest: the newest backup is $found, of data that a restore took the place of. Expected: a backup of what came after, or one that is named. Set the key to the name of the one that you want"
  require_restorable "$found"
  printf '%s' "$found"
}

# The store's configuration, with its credentials, is there while this step runs.
open_store() {
  store_path=$state_path/store
  # shellcheck disable=SC2034  # for store.sh
  rclone_program=$rclone_placed rclone_configuration=$store_path/rclone.conf
  remove_store_files
  at_exit remove_store_files
  private_folder "$store_path"
  place_files "$store_path" < <(store_files) || true
  require_rclone_runs
}
remove_store_files() { rm -rf "$store_path"; }

# resolve FROM: prints TOKEN/NAME.
resolve() {
  local listed found key=${spec[key]:-restoreFrom}
  [[ $1 != */* ]] || { echo "$1" && return; }
  listed=$(list_backups "$1") || exit "$FAILED"
  [[ $1 != latest ]] || { newest_of_own "$listed" && return; }
  found=$(awk -v name="/$1" 'substr($0, length($0) - length(name) + 1) == name' < <(printf '%s\n' "$listed"))
  [[ -n $found ]] || fail "$key: $1: there is no such backup in $backup_shown. Expected: one of those there; the newest is ${listed%%$'\n'*}. Correct the name"
  [[ $found != *$'\n'* ]] || fail "$key: $1: several clusters have a backup of that name: $(last_words "$found"). Expected: one backup. Write TOKEN/NAME"
  echo "$found"
}

# list_backups FROM: prints TOKEN/NAME of all backups in the store, the newest first.
list_backups() {
  local said
  if ! said=$(rclone lsf --recursive --files-only --include '*.json' "$backup_parent" 2>&1); then fail "$(store_problem "$said")"; fi
  said=$(printf '%s\n' "$said" | sed -n 's|^\([0-9a-f]*/[0-9TZ]*-[0-9]*-[A-Za-z0-9._-]*\)\.json$|\1|p' | sort -t / -k 2,2r)
  [[ -n $said ]] || fail "$key: $1: there is no backup in $backup_shown. Expected: at least one. Correct backup.to"
  printf '%s\n' "$said"
}

# newest_of_own LISTED: prints the newest backup of a cluster of this name, whatever its token. One that is dated in the future is
# neither taken nor passed over: whether the clock was ahead where it was made, or is behind here, nobody knows here.
newest_of_own() {
  local said own newest before now limit
  # All manifests by one call. What it names has to be in the list, and its own manifest is read again.
  if ! said=$(rclone cat --include '*.json' --separator $'\n' "$backup_parent" 2>&1 | tr -d '\0'); then
    # Another cluster may be there that is encrypted, and this one not, or otherwise.
    is_other_encryption "$said" || fail "$(store_problem "$said")"
  fi
  own=$(printf '%s\n' "$said" | grep -aF "\"cluster\": \"$(json_text "$cluster")\"" | sed -n 's/.*"name": "\([^"]*\)".*"token": "\([^"]*\)".*/\2\/\1/p') || true
  own=$(awk 'NR == FNR { own[$0]; next } $0 in own' <(printf '%s\n' "$own") <(printf '%s\n' "$1"))
  if [[ -z $own ]]; then
    ! is_other_encryption "$said" || fail "$(store_problem "$said")"
    fail "$key: latest: no backup in $backup_shown is of $cluster. Expected: at least one. Write TOKEN/NAME; the newest of another cluster is ${1%%$'\n'*}"
  fi
  newest=${own%%$'\n'*} now=$(date +%s)
  limit=$(time_of "$((now + 3600))") before=${newest#*/}
  if [[ ${before:0:16} > $limit ]]; then
    before=$(awk -F / -v limit="$limit" 'substr($2, 1, 16) <= limit { print; exit }' < <(printf '%s\n' "$own"))
    fail "$key: latest: the newest backup is $newest, dated $(date_in "$newest"), and the clock of this machine says $(date_in "/$(time_of "$now")"). Expected: no backup of the future. If this clock is behind, set it (chronyc makestep); if the clock was ahead where that backup was made, set $key to the name of the one that you want${before:+; the newest before it is $before}"
  fi
  echo "$newest"
}

# date_in TOKEN/NAME: prints the time that a backup's name begins with.
date_in() {
  local name=${1#*/}
  echo "${name:0:4}-${name:4:2}-${name:6:2} ${name:9:2}:${name:11:2}:${name:13:2} UTC"
}

# require_still_latest FOUND: fails if `latest` would be another backup than the run before found, which may be days ago: clients have
# gone on since. What the restore itself has backed up, before it was cut off, is none that clients went on from.
require_still_latest() {
  local newest key=${spec[latest]}
  newest=$(list_backups latest)
  newest=$(newest_of_own "$newest")
  [[ $newest != "$1" ]] || return 0
  if [[ -n ${given_up:-} ]]; then
    manifest=$(rclone cat "$backup_parent/$newest.json" 2>&1) || fail "$(store_problem "$manifest")"
    [[ $(field beforeRestoreOf) != "$given_up" ]] || return 0
  fi
  fail "$key: latest was $1, dated $(date_in "$1"), when an \`up\` read it first, and the newest backup is $newest, dated $(date_in "$newest"), by now; nothing more was stopped. Expected: the newest one, or one that is named. Set $key to the name of the one that you want, and run \`pulumi up\` again"
}

# require_restorable FOUND: $manifest is its manifest. An older minor version of etcd cannot read the data of a newer one.
require_restorable() {
  local version key=${spec[key]:-restoreFrom}
  version=$(field version)
  if [[ ! $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ || ! $(field sha256) =~ ^[0-9a-f]{64}$ ]] || ! is_manifest_of "${1##*/}"; then
    fail "$key: the manifest of $1 is damaged. Expected: its name, version and sha256. Choose another backup"
  fi
  [[ $(printf '%s\n' "${version%.*}" "${spec[series]}" | sort -V | tail -n 1) == "${spec[series]}" ]] || fail "$key: $1 is of etcd $version. Expected: ${spec[series]} or older. Set version to ${version%.*} or later"
}

# restore SNAPSHOT url=PEER_URL version=X.Y.Z [latest=KEY]: the data of the first member of a new cluster. The data folder is complete or absent.
restore() {
  local source
  read_spec "$@"
  lock
  require_claim
  ! holds_data || fail "$data_path holds data. Expected: none, where a backup is restored. Take restoreFrom out to go on with the data"
  say "${spec[say]}"
  make_data_folder
  begin_restoring
  make_restored_data "$token" 0 "${spec[file]:-}"
  # Which backup it is, for a run that goes on with another one in its config.
  put_file 644 "$(id -un)" "$volume_path/restored" "$(printf '%s' "${spec[backup]:-${spec[sha256]:-}}" | base64 -w 0)" || true
  move_in
  source=${spec[backup]:-the file}
  say "restored ${source##*/}"
}

# prepare_restore SNAPSHOT cluster=ID url=PEER_URL version=X.Y.Z [latest=KEY] [users=yes]: makes the data that take the place of cluster
# ID's. Nothing is stopped. With users=yes it prints the users and roles in them.
prepare_restore() {
  local file seen
  read_spec "$@"
  lock
  require_claim
  say "${spec[say]}"
  begin_restoring
  file=${spec[file]:-}
  if [[ ${spec[snapshot]:-} == yes ]]; then
    file=$restoring_path/db
    take_own_snapshot "$file"
  fi
  given_up=${spec[cluster]} asks_users=${spec[users]:-}
  # One restore after the other starts with the same token otherwise, and its cluster would have the id of the one before.
  seen=$(live_revision)
  make_restored_data "$token-${spec[cluster]}" "$seen" "$file"
  put_file 644 "$(id -un)" "$restoring_path/source" "$(printf '%s' "${spec[backup]:-${spec[sha256]:-snapshot}}" | base64 -w 0)" || true
  put_file 644 "$(id -un)" "$restoring_path/ready" "$(printf '%s' "${spec[cluster]}" | base64 -w 0)" || true
  sync "$restoring_path"
}

# put_restored cluster=ID version=X.Y.Z [snapshot=yes]: puts those data in the place of cluster ID's, which get another name. A run that was cut off goes
# on. With snapshot=yes, not if the member has a leader again: others have taken writes since.
put_restored() {
  read_spec "$@"
  lock
  require_claim
  say "${spec[say]}"
  [[ $(cat "$restoring_path/ready" 2>/dev/null) == "${spec[cluster]}" ]] || fail "$restoring_path holds no restored data. Expected: those that this run has made. Run \`pulumi up\` again"
  [[ ${spec[snapshot]:-} != yes ]] || ! has_leader || fail "it has a leader again, so the quorum is not lost; nothing was stopped. Expected: none. Take recover out, and run \`pulumi up\`"
  service_stop
  # Before the data: what is there then is of another cluster than this, or of this one still.
  put_file 644 "$(id -un)" "$volume_path/replaced" "$(printf '%s' "${spec[cluster]}" | base64 -w 0)" || true
  archive_old_data
  # The version that made the data starts with them.
  ln -sfn "$versions_path/${spec[version]}" "$binaries_path.new"
  mv -fT "$binaries_path.new" "$binaries_path"
  move_in
  say "the restored data are in place"
}

# try_restore file=PATH version=X.Y.Z [bare=yes]: proves a snapshot apart from any cluster, and prints what it holds.
try_restore() {
  read_spec "$@"
  # shellcheck disable=SC2034  # for proof.sh
  binaries_path=$versions_path/${spec[version]}
  prove_file "${spec[file]}"
  printf 'revision=%s\nkeys=%s\n' "$(scratch_revision)" "$(scratch_metric etcd_debugging_mvcc_keys_total)"
  [[ -z ${equal:-} ]] || echo hash=equal
}

# prove_file FILE: as the test of a backup does, with $file_manifest, if there is one. Sets `scratch`, in which its member runs.
prove_file() {
  local said
  [[ ${spec[bare]:-} != yes ]] || unsummed=(--skip-hash-check)
  manifest=$(printf '%s' "${file_manifest:-}" | base64 -d)
  require_agreement
  scratch=$(scratch_folder "$(stat -c %s "$1")")
  at_exit remove_scratch
  said=$(snapshot_status "$1" "$SNAPSHOT_SECONDS" "${spec[version]}") || fail "it is no database of etcd, or a damaged one: $said. Expected: a snapshot, or a copy of member/snap/db. Take another one"
  [[ $said =~ revision\ ([0-9]+) ]] || fail "it is no database of etcd: $said. Expected: a snapshot, or a copy of member/snap/db. Take another one"
  serves_equal "$1" "${BASH_REMATCH[1]}"
}

begin_restoring() {
  # The scratch member of a backup's test that runs is none of a run that was killed.
  exec 8>"$state_path/backup.lock"
  flock --wait "$SNAPSHOT_SECONDS" 8 || fail "a backup still runs on this machine. Expected: none for a while. Wait for it, then run \`pulumi up\` again"
  remove_leftovers
  rm -rf "$restoring_path"
  must mkdir -p -m 700 "$restoring_path"
  at_exit remove_unfinished
  # shellcheck disable=SC2034  # for proof.sh
  binaries_path=$versions_path/${spec[version]}
}
remove_unfinished() { rm -rf "$restoring_path"; }

# make_restored_data TOKEN REVISION FILE: proves the snapshot, and restores it into a folder beside the data, as a cluster of this member alone.
# Its revisions are beyond REVISION, where etcd can raise them, and marked compacted.
make_restored_data() {
  local file=$3 said revision bump=()
  if [[ -n ${spec[backup]:-} ]]; then
    open_store
    [[ -z ${spec[latest]:-} ]] || require_still_latest "${spec[backup]}"
    # shellcheck disable=SC2034  # for proof.sh
    backup_store=$backup_parent/${spec[backup]%/*}
    restored_equal "${spec[backup]##*/}"
    file=$scratch/db
  else
    if [[ $file != "$restoring_path/db" ]]; then
      said=$(sha256 <"$file")
      [[ $said == "${spec[sha256]}" ]] || fail "$file has the SHA-256 $said. Expected: ${spec[sha256]}, as where it came from. Run \`pulumi up\` again, which sends it again"
    fi
    prove_file "$file"
  fi
  require_members_users
  [[ ${asks_users:-} != yes ]] || report_users_of_data
  revision=$(scratch_revision)
  stop_scratch
  rm -rf "$scratch/data"
  require_space "$(($(stat -c %s "$file") / 1048576 + 64))" "$volume_path"
  ! bumps || bump=(--bump-revision "$(beyond "$2" "$revision")" --mark-compacted)
  said=$(ETCDCTL_API=3 "$(restoring_tool)" snapshot restore "$file" "${unsummed[@]}" --data-dir "$restoring_path/data" --name "${spec[member]}" --initial-cluster "${spec[member]}=${spec[url]}" \
    --initial-advertise-peer-urls "${spec[url]}" --initial-cluster-token "$1" "${bump[@]}" 2>&1) || fail "it does not restore: $(last_words "$said")"
  [[ $supervisor != systemd ]] || chown -R etcd: "$restoring_path/data"
  chmod 700 "$restoring_path/data"
  rm -f "$restoring_path/db" ${spec[file]:+"${spec[file]}"}
  sync
  not_at_exit remove_unfinished
  say "its restore is proven: it serves, at revision $revision"
}

# With etcd's authentication on in the data, only a user of role root can add a member. Without users in the stack, which would give
# members theirs (members=NAME,... is set then), all of them have to be there: else the restore would end with one member.
require_members_users() {
  local said name
  [[ -n ${spec[members]:-} ]] || return 0
  said=$(at_scratch endpoint hashkv --rev 9223372036854775807 2>&1) || true
  [[ $said == *"future revision"* ]] || without_user "${spec[member]}" "$said"
  # Without authentication, nobody looks at that name.
  ! at_scratch --user etcd-cluster:- user list >/dev/null 2>&1 || return 0
  for name in ${spec[members]//,/ }; do
    said=$(at_scratch user get "$name" 2>&1) || without_user "$name" "$said"
    [[ " ${said##*Roles:} " == *' root '* ]] || without_user "$name" "its roles are:${said##*Roles:}"
  done
}
# without_user NAME WHAT
without_user() {
  fail "etcd's authentication is on in it, and the member $1 is no user of role root there ($(last_words "$2")), so no member could join; nothing was stopped. Expected: users in the stack, which gives members theirs. Set users (docs/users.md), with TLS, and run \`pulumi up\` again"
}

# report_users_of_data: prints whether authentication is on in the data, and the users and roles in them. Where authentication is on in them,
# and the member's certificate may not ask, that of the user root may.
report_users_of_data() {
  # shellcheck disable=SC2034  # for etcdctl_at
  local url said state found patience=120 answer_within=100s
  url=$scheme://127.0.0.1:$scratch_client_port
  state=$(authentication_state) || gave_nothing "answer about its users"
  if ! found=$(users_and_roles 2>/dev/null); then
    act_as_client
    if ! found=$(users_and_roles 2>/dev/null); then
      said=$(etcdctl_at "$url" user list 2>&1) || true
      fail "the users in it could not be read ($(last_words "$said")); nothing was stopped. Expected: an answer to the member or to the user root. Run \`pulumi up\` again, or take another backup"
    fi
  fi
  printf '%s\n' "$state" "$found"
}

# move_in: makes the restored data the data.
move_in() {
  [[ ! -d $data_path ]] || must rmdir "$data_path"
  mv -T "$restoring_path/data" "$data_path"
  sync "$volume_path"
  rm -rf "$restoring_path"
}

# live_revision: prints the revision that clients have seen, as far as this member knows: from what runs, else from its database. 0 without
# data, and for a database that cannot be read.
live_revision() {
  local said=''
  if [[ -n $(service_pid) ]]; then
    pause=1 wait_until 30 own_metrics || fail "etcd runs here and gives no metrics, so nobody knows which revisions clients have seen; nothing was stopped. Expected: its metrics, or no etcd. Look at its log (journalctl -u etcd-cluster), or stop it (systemctl stop etcd-cluster), and run \`pulumi up\` again"
    printf '%.0f\n' "${measured[debugging_mvcc_current_revision]}"
    return
  fi
  [[ ! -f $data_path/member/snap/db ]] || said=$(snapshot_status "$data_path/member/snap/db" "$SNAPSHOT_SECONDS" "${spec[version]}") || said=''
  if [[ $said =~ revision\ ([0-9]+) ]]; then echo "${BASH_REMATCH[1]}"; else echo 0; fi
}

# beyond SEEN REVISION: prints by how much a revision has to be raised, so that it is some hundred million beyond what clients have seen.
beyond() {
  local ahead=$(($1 > $2 ? $1 - $2 : 0))
  echo $((BUMP * ((ahead + BUMP / 2) / BUMP + 1)))
}

# True if that tool can bump revisions: from 3.4.27, 3.5.10 and 3.6 on.
bumps() { ETCDCTL_API=3 "$(restoring_tool)" snapshot restore --help 2>&1 | grep -q -e --bump-revision; }

# raft_position: prints REVISION INDEX, up to where this member has got, with or without a leader: of its keys, and of raft's log as it
# knows it to be committed. After a kill, the database may be ahead of that index.
raft_position() {
  await_applied
  awk -v revision="${measured[debugging_mvcc_current_revision]}" -v index_="${measured[server_proposals_applied_total]}" 'BEGIN { printf "%.0f %.0f\n", revision, index_ }'
}

# Right after a start, etcd still applies what its log holds, and does not say when it has: it has once these stay as they are.
await_applied() {
  wait_until 600 has_applied || fail "etcd gives no metrics here, or still applies its log. Expected: a member that runs, and has. Look at its log (journalctl -u etcd-cluster), and run \`pulumi up\`"
}
has_applied() {
  local before
  before=$(applied) && sleep 3 && [[ $(applied) == "$before" ]] && own_metrics
}
applied() { own_metrics && echo "${measured[debugging_mvcc_current_revision]} ${measured[server_proposals_applied_total]}"; }
own_metrics() {
  ask_metrics && [[ -n ${measured[debugging_mvcc_current_revision]:-} && -n ${measured[server_proposals_applied_total]:-} ]]
}

# take_own_snapshot FILE: of this member as it runs without a leader. One that answers no client is stopped, its database copied, and
# started again. It takes no part in anything.
take_own_snapshot() {
  await_applied
  if answers_clients; then
    take_snapshot "$1" "$SNAPSHOT_SECONDS" "${spec[version]}"
  else
    copy_database "$1" "${measured[debugging_mvcc_current_revision]}"
  fi
}

# copy_database FILE REVISION
copy_database() {
  local said copied=no
  [[ ${measured[server_has_leader]} == 0 ]] || fail "it has a leader again, and answers no client. Expected: a quorum that is lost. Run \`pulumi up\` again"
  require_space "$(($(stat -c %s "$data_path/member/snap/db") / 1048576 + 64))" "$volume_path"
  service_stop
  if cp "$data_path/member/snap/db" "$1"; then copied=yes; fi
  service_start
  [[ $copied == yes ]] || fail "$data_path/member/snap/db could not be copied. Expected: a readable database. Check this machine's disk"
  said=$(snapshot_status "$1" "$SNAPSHOT_SECONDS" "${spec[version]}") || fail "its database is damaged: $said. Expected: one that can be read. Set recover.from to another member, or to a backup"
  if [[ ! $said =~ revision\ ([0-9]+) ]] || ((BASH_REMATCH[1] < $2)); then fail "its database has not all that it served ($said). Expected: revision $2. Run \`pulumi up\` again"; fi
  spec[bare]=yes
}

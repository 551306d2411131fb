# shellcheck shell=bash
# Sets a machine's backups up: their program, its configuration with the credentials, and the timer. What is there already stays.
# shellcheck disable=SC2154
backup_path=$configuration_path/backup

# backup_setup [look=yes | remove=yes]: look only prints what is not as desired, a line each.
backup_setup() {
  read_spec "$@"
  if [[ ${spec[look]:-} == yes ]]; then
    differing
  elif [[ ${spec[remove]:-} == yes ]]; then
    remove_backup
  else
    set_up
  fi
}

# MODE NAME CONTENT(base64) lines.
backup_files() {
  echo "500 program $file_program"
  store_files
}
backup_units() { printf '%s\n' "644 etcd-cluster-backup.service $file_service" "644 etcd-cluster-backup.timer $file_timer"; }

set_up() {
  local is_new=no
  lock
  private_folder "$backup_path"
  place_files "$backup_path" < <(backup_files) || true
  [[ -z $rclone_placed ]] || ln -sfn "$rclone_placed" "$rclone_program"
  require_rclone_runs
  try_store
  remove_other_versions
  if [[ $supervisor == systemd ]]; then
    if place_files "$UNITS_PATH" < <(backup_units); then is_new=yes; fi
    if [[ $is_new == yes ]] || ! timer_runs; then
      must systemctl daemon-reload
      must systemctl enable --quiet etcd-cluster-backup.timer
      must systemctl restart etcd-cluster-backup.timer
    fi
  fi
}
timer_runs() { systemctl --quiet is-enabled etcd-cluster-backup.timer && systemctl --quiet is-active etcd-cluster-backup.timer; }

differing() {
  differing_files "$backup_path" < <(backup_files)
  [[ $backup_parent == /* || -x $rclone_program ]] || echo "$rclone_program is missing"
  [[ $supervisor == systemd ]] || return 0
  differing_files "$UNITS_PATH" < <(backup_units)
  timer_runs || echo "etcd-cluster-backup.timer does not run"
}

# try_store: writes an object, reads it, and deletes it, as each backup will.
try_store() {
  local object=.trial-${spec[member]} text said newest
  # shellcheck disable=SC2034  # for rclone: people wait for this
  store_trial=yes
  text="$object $RANDOM$RANDOM"
  # A role that was made just now has no rights yet.
  ((role_seconds == 0)) || pause=5 wait_until "$role_seconds" role_counts || true
  [[ -z $backup_root ]] || require_folder
  # Where nothing may be deleted, nothing can be written anew either, as in Google Cloud Storage.
  [[ $backup_append_only != yes ]] || object+=-$(date +%s)
  to_store rcat "$backup_store/$object" < <(printf '%s' "$text")
  said=$(rclone cat "$backup_store/$object" 2>&1) || fail "$(store_problem "$said")"
  [[ $said == "$text" ]] || fail "backup to $backup_shown: what was written is read as something else. Expected: a store that keeps what is written. Check it"
  newest=$(names | sed -n 's/^\([0-9TZ]*-[0-9]*-[A-Za-z0-9._-]*\.json\)$/\1/p' | sort | tail -n 1)
  if [[ -n $newest ]]; then require_same_encryption "$newest"; fi
  [[ $backup_append_only == yes ]] || to_store deletefile "$backup_store/$object"
  say "backups: the store takes, lists and returns what is written"
}

role_counts() {
  local status=0
  rclone lsf --files-only "$backup_store" >/dev/null 2>&1 || status=$?
  ((status == 0 || status == 3)) # 3: a folder that does not exist yet
}

# require_same_encryption MANIFEST: in one folder, all backups are encrypted with one password, or none is. Else nobody could list them.
require_same_encryption() {
  local said
  if ! said=$(rclone cat "$backup_store/$1" 2>&1 | tr -d '\0'); then fail "$(store_problem "$said")"; fi
  [[ $said != RCLONE* ]] || fail "backup to $backup_shown: the backups there are encrypted. Expected: their password. Set backup.encryptionPassword, or another prefix in backup.to"
}

# Other versions of rclone, of which each takes 80 MB: nothing uses them any more.
remove_other_versions() {
  local folder
  [[ $supervisor == systemd && $rclone_placed == /opt/etcd/rclone/*/rclone ]] || return 0
  for folder in /opt/etcd/rclone/*/; do
    [[ $folder == "${rclone_placed%rclone}" ]] || rm -rf "$folder"
  done
}

# The store keeps what it has. A backup that runs ends: without its manifest, it is none.
remove_backup() {
  lock
  if [[ $supervisor == systemd ]]; then
    systemctl disable --quiet --now etcd-cluster-backup.timer 2>/dev/null || true
    systemctl stop etcd-cluster-backup.service 2>/dev/null || true
    rm -f "$UNITS_PATH"/etcd-cluster-backup.{service,timer}
    must systemctl daemon-reload
  fi
  rm -rf "$backup_path" "$state_path/backup"
}

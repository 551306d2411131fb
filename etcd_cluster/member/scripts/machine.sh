# shellcheck shell=bash
# Examines the machine: what its data device holds, and which packages are missing. Reads only.
# shellcheck disable=SC2154
LABEL=etcd-data
MOUNT_UNIT=/etc/systemd/system/data-etcd.mount
MOVE="docs/move-data-to-a-device.md"

# Sets `candidates` to the names that the data's device may have on this machine.
read_candidates() { IFS=, read -ra candidates < <(printf '%s\n' "${spec[device]:-}"); }

# Prints the block device for the data: the first candidate that exists; nothing if none does.
data_device() {
  local candidate candidates
  read_candidates
  for candidate in "${candidates[@]}"; do
    if [[ -b $candidate ]]; then
      readlink -f "$candidate"
      return
    fi
  done
  return 1
}

# Prints the device whose file system etcd-cluster made and mounted at the volume path. Fails if there is none.
mounted_device() {
  local device
  device=$(mounted_at "$volume_path") && is_data_disk "$device" && echo "$device"
}

# mounted_at PATH: prints what is mounted there, the topmost of several. Fails if it is no mount point.
mounted_at() {
  local sources
  sources=$(findmnt -rno SOURCE --mountpoint "$1" 2>/dev/null) && echo "${sources##*$'\n'}"
}

# is_data_disk SOURCE: true if our mount unit mounts it (found without a process), or if etcd-cluster made its file system.
is_data_disk() {
  local unit=''
  [[ ! -f $MOUNT_UNIT ]] || unit=$(<"$MOUNT_UNIT")
  [[ -b $1 ]] || return 1
  [[ $unit =~ What=([^$'\n']+) && ${BASH_REMATCH[1]} -ef $1 ]] || [[ $(device_content "$1") == ours ]]
}

# is_listed SOURCE: true if it is one of the devices that the stack names for the data.
is_listed() {
  local candidate candidates
  read_candidates
  for candidate in "${candidates[@]}"; do
    [[ ! $candidate -ef $1 ]] || return 0
  done
  return 1
}

# Prints why data cannot be kept at the volume path; nothing if they can. Never mount over data: etcd would go on in files that
# are hidden from everybody else, and its member would seem to have no data.
volume_obstacle() {
  local over gone held
  over=$(mounted_over)
  if [[ -n $over && -n ${spec[device]:-} ]] && has_data; then
    echo "the data of this member are on $over, which is not a disk of this cluster's making; leave \`device\` out, or move the data first ($MOVE)"
    return
  elif [[ -n $over ]]; then
    echo "$over is mounted where the data of this member belong, and it is not their file system; unmount it (umount) and remove it from /etc/fstab, or, if it is their new file system, delete $state_path/mounted-at on this machine"
    return
  fi
  gone=$(link_to_nothing)
  if [[ -n $gone ]]; then
    echo "data of this member are behind a link to $gone, which is not there; mount its file system, or, if it is lost for good, remove the link: the member then joins anew"
    return
  fi
  gone=$(unmounted_from)
  if [[ -n $gone ]]; then
    echo "the file system that held the data of this member at $gone is not mounted; mount it, or, if it is lost for good, delete $state_path/mounted-at on this machine: the member then joins anew"
    return
  fi
  held=$(link_out_of_data)
  if [[ -n $held ]]; then
    echo "$held"
    return
  fi
  [[ -n ${spec[device]:-} ]] || return 0
  if [[ $(readlink -m "$volume_path") != "$volume_path" ]]; then
    echo "$volume_path is behind a symbolic link (it is $(readlink -m "$volume_path")), and systemd mounts disks at real paths only; make a folder in place of the link, or leave \`device\` out"
  elif ! mounted_at "$volume_path" >/dev/null; then
    held=$(held_files)
    if [[ -n $held ]]; then
      echo "$volume_path holds etcd's files ($held), and device ${spec[device]} would be mounted over them; nothing is ever mounted over data: leave \`device\` out, or move the data first ($MOVE)"
    elif [[ -n $(service_pid) ]] && ! is_data_disk "$(data_device)"; then
      echo "etcd runs here, and its data are not on device ${spec[device]}; leave \`device\` out, or move the data first ($MOVE)"
    fi
  fi
}

# Prints the names of what etcd and etcd-cluster keep at the volume path. A marker or an empty folder holds no data.
held_files() {
  local entry found=()
  for entry in "$data_path" "$data_path".* "$volume_path"/{snapshots,history}; do
    if [[ -d $entry && -n $(ls -A "$entry") ]] || [[ -f $entry && ! -d $entry ]]; then found+=("${entry##*/}"); fi
  done
  ((${#found[@]} == 0)) || printf '%s' "$(IFS=' ' && echo "${found[*]}")"
}

# Prints SOURCE at PATH if something is mounted in place of the data's file system. Without a `device`, data may be on any
# mounted file system: then the check is whether it has changed since data were written there.
mounted_over() {
  local source target noted=''
  if ! has_data && source=$(mounted_at "$data_path"); then
    printf '%s at %s' "$source" "$data_path"
  elif [[ -n ${spec[device]:-} ]]; then
    if source=$(mounted_at "$volume_path") && ! is_data_disk "$source"; then printf '%s at %s' "$source" "$volume_path"; fi
  elif ! has_data; then
    read -r source target < <(file_system) || true
    [[ ! -f $state_path/mounted-at ]] || noted=$(<"$state_path/mounted-at")
    if [[ -n $noted ]]; then
      ((${#target} <= ${#noted})) || printf '%s at %s' "$source" "$target"
    elif [[ $target == "$volume_path" && -z $(data_token) && -z $(held_files) ]] && ! is_free_for_data; then
      printf '%s at %s' "$source" "$target"
    fi
  fi
}

# Prints where a link leads in the place of the data, or of a part of them, if nothing is there: its file system is not mounted.
link_to_nothing() {
  local link
  for link in "$data_path" "$data_path"/member{,/wal,/snap}; do
    if [[ -L $link && ! -e $link ]]; then
      readlink -m "$link"
      return
    fi
  done
}

# Prints the path of the file system that held the data and is not mounted now; else nothing. If it is only known by its path, not
# by a link, that is without a `device` alone.
unmounted_from() {
  local source target noted
  link_to_nothing | grep . && return
  if [[ -z ${spec[device]:-} && -f $state_path/mounted-at ]] && ! has_data; then
    read -r source target < <(file_system) || true
    noted=$(<"$state_path/mounted-at")
    ((${#target} >= ${#noted})) || printf '%s' "$noted"
  fi
}

# Prints "SOURCE PATH" of the file system that the data are on, or would be on.
file_system() {
  local folder=$data_path
  until [[ -d $folder ]]; do folder=$(dirname "$folder"); done
  findmnt -rno SOURCE,TARGET --target "$folder" | tail -n 1
}

# True for an empty file system that is not in memory.
is_free_for_data() {
  [[ ! $(findmnt -rno FSTYPE --mountpoint "$volume_path" | tail -n 1) =~ ^(tmpfs|ramfs)$ ]] &&
    [[ -z $(find "$volume_path" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name data -print -quit) ]]
}

# device_content DEVICE: prints blank, ours, unfinished (our formatting was interrupted), or a description of its content.
device_content() {
  local device signature
  device=$(readlink -f "$1")
  if formatting_was_cut_short "$device"; then
    printf 'unfinished'
    return
  fi
  if [[ $(blkid -p -s LABEL -o value "$device" 2>/dev/null) == "$LABEL" && $(blkid -p -s TYPE -o value "$device" 2>/dev/null) == xfs ]]; then
    printf 'ours'
    return
  fi
  if mount=$(findmnt -rn -o TARGET --source "$device" | head -n 1) && [[ -n $mount ]]; then
    printf 'it is mounted at %s' "$mount"
    return
  fi
  signature=$(wipefs --no-act --noheadings --output TYPE,LABEL "$device" 2>&1 | head -n 3 | tr -s ' \n' ' ')
  if [[ -n ${signature// /} ]]; then
    printf 'it carries %s' "${signature% }"
  elif lsblk -nro NAME "$device" | tail -n +2 | grep -q .; then
    printf 'it has partitions or is part of something larger'
  elif ! cmp -s -n 1048576 "$device" /dev/zero; then
    printf 'its first MiB is not empty'
  else
    printf 'blank'
  fi
}

# True if the device carries what our formatting wrote: its UUID, or the mark that is written first. Only the content counts: a
# disk's name and size can change owners, and not every disk has a serial number.
formatting_was_cut_short() {
  local uuid=''
  [[ -e $state_path/formatting ]] || return 1
  read -r uuid _ <"$state_path/formatting" || true # cut short itself
  [[ -n $uuid ]] || return 1
  case $(wipefs --no-act --noheadings --output TYPE,UUID "$1" | awk '{ $1 = $1; print }') in
    "xfs $uuid") true ;;
    "") [[ $(dd if="$1" bs="$MARK_BYTES" skip="$MARK_BLOCK" count=1 status=none | tr -d '\0') == "$(formatting_mark "$uuid")" ]] ;;
    *) false ;;
  esac
}

# The mark is at the end of the first MiB: that place is empty on a blank device, and mkfs.xfs does not write to it.
MARK_BYTES=4096 MARK_BLOCK=255
formatting_mark() { printf 'etcd-cluster: formatting %s' "$1"; }

# Prints the missing packages, one a line, by their names in the distribution.
missing_packages() {
  command -v curl >/dev/null || [[ ${spec[install]:-} != release ]] || echo curl
  command -v mkfs.xfs >/dev/null || [[ -z ${spec[device]:-} ]] || echo xfsprogs
  command -v chronyd >/dev/null || clock_kept || echo chrony
}

# Prints the data's device if it has our label and is mounted nowhere.
unmounted_data_disk() {
  local device
  [[ -n ${spec[device]:-} ]] && device=$(data_device) && [[ $(device_content "$device") == ours ]] &&
    ! findmnt -rn --source "$device" >/dev/null && echo "$device"
}

# look_into DEVICE: mounts a file system that is mounted nowhere read-only at $look. Sets `said` to mount's words.
look_into() {
  look=$(mktemp -d /run/etcd-cluster-XXXXXX)
  at_exit end_look
  # shellcheck disable=SC2034  # for the step's error
  said=$(mount -t xfs -o ro,norecovery,nodev,nosuid,noexec "$1" "$look" 2>&1)
}
end_look() {
  umount "$look" 2>/dev/null || true
  rmdir "$look" 2>/dev/null || true
}

# examine_disk DEVICE: looks into it, and sets `finding` to why it cannot be the data disk of this member; empty if it can.
examine_disk() {
  if ! look_into "$1"; then
    finding="device $1 has the label of etcd's file system, but cannot be mounted ($(last_words "$said")); repair it (xfs_repair), or use another disk"
    return
  fi
  finding=$(foreign_files "$look")
  [[ -z $finding ]] || finding="device $1 has the label $LABEL, but holds $finding and nothing of etcd-cluster's; use another disk, or remove that label (xfs_admin -L -- $1) and wipe it yourself once you are sure"
}

# foreign_files FOLDER: prints what is in a file system that has our label, but neither our marker nor a history: anybody can
# give a label.
foreign_files() {
  [[ ! -f $1/etcd-cluster.json && ! -f $1/history ]] || return 0
  find "$1" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name '.new-*' ! -name data -printf '%f\n' | awk 'NR <= 3 { printf "%s%s", between, $0; between = " " }'
}

# shellcheck shell=bash
# The machine below etcd: what its data device holds, and which packages it lacks. Reads only.
# shellcheck disable=SC2154
LABEL=etcd-data

# The block device for the data: of the names that it may have here, the first that exists. Nothing if none does.
data_device() {
  local candidate
  for candidate in ${spec[device]//,/ }; do
    if [[ -b $candidate ]]; then
      readlink -f "$candidate"
      return
    fi
  done
  return 1
}

# The device that carries our file system where the data belongs. Fails if none does.
mounted_device() {
  local device
  device=$(findmnt -rno SOURCE --mountpoint "$volume_path") && [[ $(device_content "$device") == ours ]] && echo "$device"
}

# device_content DEVICE: blank, ours, unfinished (our own formatting was cut short), or what else is on it, in words.
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

# The device carries what our own formatting wrote, known by its UUID, or nothing that anybody could tell. Another disk
# in its place is not that one.
formatting_was_cut_short() {
  local uuid identity
  [[ -e $state_path/formatting ]] || return 1
  read -r uuid identity <"$state_path/formatting" || true # cut short itself
  case $(wipefs --no-act --noheadings --output TYPE,UUID "$1" | awk '{ $1 = $1; print }') in
    "xfs $uuid") true ;;
    "") [[ $identity == "$(device_identity "$1")" ]] ;;
    *) false ;;
  esac
}

device_identity() {
  lsblk -ndo MAJ:MIN,SERIAL "$1" 2>/dev/null | awk -v bytes="$(blockdev --getsize64 "$1")" '{ $1 = $1; print $0, bytes }'
}

# One name a line, as the distributions call them.
missing_packages() {
  command -v curl >/dev/null || [[ ${spec[install]:-} != release ]] || echo curl
  command -v mkfs.xfs >/dev/null || [[ -z ${spec[device]:-} ]] || echo xfsprogs
  clock_kept || echo chrony
}

# Something keeps this machine's clock: any NTP client that runs, or a clock that is in sync.
clock_kept() {
  systemctl is-active --quiet chrony.service chronyd.service systemd-timesyncd.service ntpd.service ntp.service ||
    [[ $(timedatectl show --property NTPSynchronized --value 2>/dev/null) == yes ]]
}

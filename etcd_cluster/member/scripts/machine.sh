# shellcheck shell=bash
# The machine below etcd: what its data device holds, and which packages it lacks. Reads only.
# shellcheck disable=SC2154
LABEL=etcd-data

# device_content DEVICE: blank, ours, unfinished (our own formatting was cut short), or what else is on it, in words.
device_content() {
  local device signature
  device=$(readlink -f "$1")
  if [[ $(cat "$state_path/formatting" 2>/dev/null) == "$(device_identity "$device")" ]]; then
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

device_identity() { printf '%s %s' "$(lsblk -ndo MAJ:MIN,SERIAL "$1" 2>/dev/null | tr -s ' ')" "$(blockdev --getsize64 "$1")"; }

# One name a line, as the distributions call them.
missing_packages() {
  command -v curl >/dev/null || [[ ${spec[install]:-} != release ]] || echo curl
  command -v mkfs.xfs >/dev/null || [[ -z ${spec[device]:-} ]] || echo xfsprogs
  clock_kept || echo chrony
}

# Something keeps this machine's clock: any NTP client that runs, or a clock that is in sync.
clock_kept() {
  [[ $(timedatectl show --property NTPSynchronized --value 2>/dev/null) == yes ]] ||
    systemctl is-active --quiet chrony.service || systemctl is-active --quiet chronyd.service ||
    systemctl is-active --quiet systemd-timesyncd.service || systemctl is-active --quiet ntpd.service || systemctl is-active --quiet ntp.service
}

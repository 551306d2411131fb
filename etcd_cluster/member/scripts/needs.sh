# shellcheck shell=bash
# Examines what a member needs of its machine before anything is done to it: tools, account, folders, room, a clock that is
# kept. Reads only. Each finding is a `problem`.
# shellcheck disable=SC2154
TOOLS='awk base64 blkid cmp df find findmnt flock getent grep gzip ip lsblk mktemp readlink sed setpriv sha256sum ss stat sync tar timeout wipefs'
# What the unit hides from etcd (ProtectHome, PrivateTmp, PrivateDevices), or what is in memory.
HIDDEN='/home /root /run /tmp /var/tmp /dev /proc /sys'
ROOM_INODES=200
# With less, systemd refuses to read units anew (RELOAD_DISK_SPACE_MIN).
RELOAD_MIB=16

# Without its tools no other check works, so this one ends the step.
require_tools() {
  local tool missing=()
  for tool in $TOOLS $(id -u etcd >/dev/null 2>&1 || echo useradd groupadd); do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  ((${#missing[@]} == 0)) || fail "this machine lacks the programs ${missing[*]}; install the packages that have them; nothing was changed on this machine"
}

# etcd runs as this user, who may have been made by a package or by hand. prepare makes a user or a group that is missing.
check_account() {
  [[ $(id -u etcd 2>/dev/null) != 0 ]] ||
    problem "user etcd has uid 0, so etcd would run as root; give that name to a user without root's rights (userdel etcd), or use another machine"
}

check_folders() {
  local programs=$PROGRAMS_MIB data=$LOG_SEGMENT_MIB
  [[ ! -d $versions_path ]] || programs=0
  if [[ -n ${spec[device]:-} ]] || has_data; then data=0; fi
  check_folder "$versions_path" "$programs" exec
  check_folder "$configuration_path" "$ROOM_MIB"
  check_folder "$volume_path" "$data"
  check_folder "$state_path" "$ROOM_MIB" roots
  check_folder "${unit_path%/*}" 0 roots
  [[ ! -d /run/systemd ]] || check_room /run/systemd "$RELOAD_MIB"
}

# check_folder PATH MIB [exec: programs are in it | roots: etcd itself does not open it]: notes what is wrong with it, or with the
# part of it that exists already.
check_folder() {
  local path=$1 mib=$2 kind=${3:-} there=$1 real options hidden
  until [[ -e $there || -L $there ]]; do there=$(dirname "$there"); done
  if ! real=$(readlink -e "$there"); then
    problem "$there is a symbolic link to nothing, and etcd's folder $path belongs there; correct the link, or remove it"
    return
  elif [[ ! -d $real ]]; then
    problem "$there is not a folder, and etcd's folder $path belongs there; move it away"
    return
  fi
  # The device that will be mounted at this folder covers it.
  if [[ $path == "$volume_path" && -n ${spec[device]:-} && $there == "$path" ]] && ! mounted_at "$path" >/dev/null; then
    there=$(dirname "$path") real=$(readlink -e "$(dirname "$path")")
  else
    options=$(findmnt -rno OPTIONS --target "$real" | tail -n 1)
    [[ ,$options, != *,ro,* ]] || problem "$real is on a file system that is mounted read-only, and $path is written there; mount it read-write"
    [[ $kind != exec || ,$options, != *,noexec,* ]] || problem "$real is on a file system that is mounted noexec, and etcd runs from $path; mount it without noexec"
    check_room "$real" "$mib"
  fi
  [[ $kind != roots ]] || return 0
  for hidden in $HIDDEN; do
    [[ $real/ != "$hidden"/* ]] || problem "$path is in $real, which etcd's unit does not let etcd see; make $there a folder of its own, not a link there"
  done
  check_way "$real" "$path"
}

# check_way FOLDER PATH: notes the first folder on the way that etcd's user may not pass. `prepare` makes the folders that do not
# exist yet. If there is no user yet, it will have no more rights than nobody.
check_way() {
  local way=/ rest=$1/ user=65534 group=65534 groups=--clear-groups
  if user=$(id -u etcd 2>/dev/null); then
    group=$(getent group etcd | cut -d : -f 3) || true # made by prepare
    groups=--init-groups
  fi
  while [[ -n $rest ]]; do
    way=$way${rest%%/*} rest=${rest#*/}
    if ! setpriv --reuid "${user:-65534}" --regid "${group:-65534}" $groups test -x "$way" 2>/dev/null; then
      problem "user etcd may not pass $way ($(stat -c 'mode %a, of %U:%G' "$way")), on the way to $2; allow it (chmod o+x $way)"
      return
    fi
    way=${way%/}/
  done
}

# check_room FOLDER MIB: space, and files, of which a file system may have a fixed number.
check_room() {
  local free inodes
  (($2 > 0)) || return 0
  free=$(($(df --output=avail -k "$1" | tail -n 1) / 1024))
  ((free >= $2)) || problem "$1: $free MiB free, but $2 MiB are needed there; free some space"
  read -r inodes free < <(df --output=itotal,iavail "$1" | tail -n 1)
  [[ ! $inodes =~ ^[1-9] ]] || ((free >= ROOM_INODES)) || problem "$1: its file system has room for $free more files, but $ROOM_INODES are needed there; remove some"
}

# True if something keeps the clock: a time service (systemd knows those that exclude its own), a program at the port of NTP or
# PTP, or the host of this container, in which no program may set the clock (CAP_SYS_TIME); or if the kernel calls it synchronised.
clock_kept() {
  local units capabilities
  units=$(systemctl show --property ConflictedBy --value systemd-timesyncd.service 2>/dev/null)
  # shellcheck disable=SC2086  # a list
  systemctl is-active --quiet systemd-timesyncd.service chrony.service chronyd.service ntpd.service ntp.service $units ||
    [[ -n $(ss -Hlun '( sport = :123 or sport = :319 or sport = :320 )' 2>/dev/null) ]] ||
    { capabilities=$(awk '$1 == "CapBnd:" { print $2 }' /proc/1/status) && ! ((16#$capabilities >> 25 & 1)); } ||
    [[ $(timedatectl show --property NTPSynchronized --value 2>/dev/null) == yes ]]
}

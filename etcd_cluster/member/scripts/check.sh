# shellcheck shell=bash
# Preflight: reads only, and prints all problems at once. Prints a report for the record of forming.
# shellcheck disable=SC2154
problems=()
problem() { problems+=("$1"); }

check() {
  read_spec "$@"
  if [[ ${spec[boot]:-} == first ]]; then await_first_boot; fi
  if [[ $supervisor == systemd ]]; then
    require_tools
    check_system
    check_hardware
    check_address
    check_source
    check_device
    check_mount
    check_packages
    check_account
    check_folders
  fi
  check_limits
  check_unit
  [[ $supervisor != systemd ]] || look_at_disk
  check_ports
  check_data
  if ((${#problems[@]} > 0)); then
    printf '%s; nothing was changed on this machine\n' "${problems[@]/#/error: ${spec[member]}: }" >&2
    exit "$FAILED"
  fi
  report
}

# On a new machine, cloud-init ends and the data disk is attached some time after SSH answers.
await_first_boot() {
  local status=0
  if command -v cloud-init >/dev/null; then
    timeout 600 cloud-init status --wait >/dev/null 2>&1 || status=$?
    # 2 is "done, with complaints".
    ((status == 0 || status == 2)) || fail "its first boot did not end well: $(cloud-init status --long 2>&1 | tail -n 3 | tr '\n' ' ')"
  fi
  [[ -z ${spec[device]:-} ]] || wait_until 300 data_device >/dev/null || true # check_device says what is missing
}

check_system() {
  [[ -d /run/systemd/system ]] || problem "this machine does not run systemd, which supervises etcd; use a distribution with systemd"
  case $(uname -m) in
    x86_64 | aarch64) ;;
    *) problem "its processor is $(uname -m); etcd runs on x86_64 and aarch64" ;;
  esac
}

# at_least WHAT ACTUAL NEEDED UNIT: notes a problem if ACTUAL is less than NEEDED.
at_least() {
  (($2 >= $3)) || [[ ${spec[undersized]} == allow ]] ||
    problem "$1: $2$4, but size ${spec[size]} needs $3$4; choose a larger machine or a smaller size, or set allowUndersized: true"
}

check_hardware() {
  at_least processors "$(nproc)" "${spec[vcpus]}" ""
  at_least memory "$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' /proc/meminfo)" "${spec[memory-mib]}" " MiB"
  if [[ -z ${spec[device]:-} ]]; then
    local folder=$volume_path
    until [[ -d $folder ]]; do folder=$(dirname "$folder"); done
    at_least "file system at $folder" "$(df --output=size -BG "$folder" | tail -n 1 | tr -dc 0-9)" "${spec[disk-gib]}" " GiB"
  fi
}

check_address() {
  [[ ${spec[address]} =~ ^[0-9.]+$|: ]] || return 0 # a DNS name is for the resolver
  [[ -n $(ip -o address show to "${spec[address]}" 2>/dev/null) ]] ||
    problem "address ${spec[address]} is not on this machine (it has $(ip -o address show scope global | awk '{ split($4, a, "/"); printf "%s%s", s, a[1]; s = ", " }')); correct the member's address"
}

# Members reject a connection from an address that the certificate does not name, and the kernel chooses it. Of these versions
# and addresses, etcd cannot be told which one.
check_source() {
  local peer route found
  [[ -n ${spec[source]:-} ]] || return 0
  for peer in ${spec[peers]//,/ }; do
    route=$(ip -o route get "$peer" 2>&1) || true
    found=$(printf '%s\n' "$route" | sed -n 's/.* src \([^ ]*\).*/\1/p')
    if [[ -z $found ]]; then
      problem "there is no route to the member at $peer ($route); correct the routes of this machine, or that member's address"
    elif [[ $found != "${spec[source]}" ]]; then
      problem "connections to the member at $peer come from $found, and members accept none but from ${spec[source]}, which the certificate names; give $found as the member's address, or change the source of the route (ip route replace ... src ${spec[source]}), or, with IPv4, choose etcd 3.6 or later, which has a setting for that"
    fi
  done
}

check_device() {
  local device found
  [[ -n ${spec[device]:-} ]] || return 0
  if ! device=$(data_device); then
    problem "device ${spec[device]} is not a block device here; see \`lsblk\` for what this machine has"
    return 0
  fi
  if found=$(mounted_device); then
    is_listed "$found" || {
      problem "device ${spec[device]} is another disk than $found, which is mounted at $volume_path with the data of this member; give $found, or move the data first ($MOVE)"
      return 0
    }
    device=$found
  fi
  at_least "device $device" "$(($(blockdev --getsize64 "$device") / 1024 ** 3))" "${spec[disk-gib]}" " GiB"
  found=$(device_content "$device")
  case $found in
    blank | ours | unfinished) ;;
    *) problem "device $device is not blank: $found; etcd gets a device of its own, and only a blank one is ever formatted: choose another, or wipe it yourself once you are sure (\`wipefs --all $device && dd if=/dev/zero of=$device bs=1M count=1\`)" ;;
  esac
}

# Data stay visible: nothing is mounted over them, and a disk that holds data has to be named in the stack.
check_mount() {
  local obstacle what=''
  obstacle=$(volume_obstacle)
  [[ -z $obstacle ]] || problem "$obstacle"
  [[ -z ${spec[device]:-} && -f $MOUNT_UNIT ]] || return 0
  # A unit without this line is from a release that did not refuse a missing `device`.
  [[ ! -f $unit_path ]] || grep -q ^AssertPathIsMountPoint= "$unit_path" || return 0
  what=$(sed -n 's/^What=//p' "$MOUNT_UNIT")
  problem "no device is given, but the data of this member are on a disk of their own ($what, by data-etcd.mount); give it as \`device\`, or move the data first ($MOVE)"
}

check_limits() {
  local blocks
  blocks=$(ulimit -f)
  [[ $blocks == unlimited ]] ||
    problem "a file may have $((blocks / 1024)) MiB at most here (ulimit -f), and programs and data of etcd have more; lift that limit for $(id -un) (fsize in /etc/security/limits.conf, and in login files)"
}

check_packages() {
  [[ -z $(missing_packages) ]] || command -v apt-get >/dev/null || command -v dnf >/dev/null || command -v yum >/dev/null || command -v zypper >/dev/null ||
    problem "it lacks $(missing_packages | tr '\n' ' ')and has no package manager that is known here; install them by hand"
}

check_unit() {
  local other
  other=$(foreign_data "$(service_pid)")
  [[ -z $other ]] || problem "another etcd runs here, whose database is $other; stop it, or use another machine"
  [[ $supervisor == systemd && -d /run/systemd/system ]] || return 0
  if [[ -f $unit_path && -z $(owner_of "$unit_path") ]]; then
    problem "$(others_unit "$unit_path" "no such file, or one of etcd-cluster")"
  fi
  while read -r other; do problem "$other"; done < <(service_obstacles)
}

check_ports() {
  local held ports
  IFS=, read -ra ports < <(printf '%s\n' "${spec[ports]}")
  while read -r held; do problem "$held; stop it, or use another machine"; done < <(held_by_others "${ports[@]}")
}

# The disk is not mounted if the machine is new, or was reinstalled.
place=$volume_path
look_at_disk() {
  local device finding
  device=$(unmounted_data_disk) || return 0
  examine_disk "$device"
  if [[ -n $finding ]]; then
    problem "$finding"
    return
  fi
  data_path=$look/${data_path#"$volume_path"/} volume_path=$look place="device ${spec[device]}"
}

# Data without a marker are never touched. Whether a marker is this cluster's is unknown before the cluster has a token: the
# Formation resource and prepare.sh check that.
check_data() {
  if holds_data && [[ -z $(data_token) ]] && ! is_noted_as_ours "$(marker_field token "$state_path/formed")"; then
    problem "$place holds etcd data that this cluster did not make; move it away, or use another machine"
  fi
}

# Fields. cluster, member: the readable names in the marker beside the data. of: id of the data's cluster, from etcd's own log.
# history: ids of its members, from the history beside the data. formed: token in the note that this machine had data; formedBy:
# the name of that cluster. unit: the cluster that the unit names.
report() {
  local running=false data=false history=null unit='' marker=$volume_path/etcd-cluster.json formed=$state_path/formed
  [[ $supervisor == systemd ]] || keep_machine_identity
  [[ -z $(service_pid) ]] || running=true
  ! holds_data || data=true
  [[ ! -f $volume_path/history ]] || history="\"$(sed -n 's/^members=//p' "$volume_path/history" | tr -cd 'a-z0-9,')\""
  [[ $supervisor != systemd ]] || unit=$(unit_owner)
  [[ -n $(data_token) || $data == false ]] || marker=$formed # see check_data
  printf '{"machine": "%s", "token": "%s", "cluster": "%s", "member": "%s", "data": %s, "of": "%s", "history": %s, "formed": "%s", "formedBy": "%s", "unit": "%s", "running": %s, "clock": %s}\n' \
    "$(json_text "$(machine_identity)")" "$(marker_field token "$marker")" "$(marker_field cluster "$marker")" "$(marker_field member "$marker")" "$data" "$(data_cluster)" "$history" \
    "$(marker_field token "$formed")" "$(marker_field cluster "$formed")" "$(json_text "$unit")" "$running" "$(date +%s.%N)"
}

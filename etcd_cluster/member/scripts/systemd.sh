# shellcheck shell=bash
# etcd as a systemd service, on a machine of its own.
# shellcheck disable=SC2154
# shellcheck disable=SC2034  # both are for the steps: what systemd reads, and whose the files are
unit_path=/etc/systemd/system/etcd-cluster.service owner=etcd
# Distributions' packages call their service like this, and so did we. Scripts of a package stop, restart and remove it by name.
package_unit=/etc/systemd/system/etcd.service

# The id changes if the machine is reinstalled.
machine_identity() { cat /etc/machine-id; }

# Prints the service that the member runs as: one of an earlier version is etcd.service until its next restart.
service() { if [[ -n $(owner_of "$package_unit") ]]; then echo etcd.service; else echo etcd-cluster.service; fi; }

# Prints the cluster that the member's unit is of.
unit_owner() {
  local owner
  owner=$(owner_of "$unit_path")
  if [[ -n $owner ]]; then printf '%s' "$owner"; else owner_of "$package_unit"; fi
}

service_pid() {
  local pid
  pid=$(systemctl show --property MainPID --value "$(service)")
  [[ $pid == 0 ]] || printf '%s' "$pid"
}

# Does not wait: a service of Type=notify counts as started only once there is a quorum.
service_start() {
  systemctl reset-failed etcd-cluster.service 2>/dev/null || true
  [[ $(systemctl show --property FragmentPath --value etcd-cluster.service) == "$unit_path" ]] ||
    fail "systemd would start etcd-cluster.service from another file than $unit_path (systemctl cat etcd-cluster). Expected: that file. Remove the other one, then run again"
  systemctl start --no-block etcd-cluster.service
}

# A unit that does not exist counts as stopped.
service_stop() { systemctl stop "$(service)" 2>/dev/null || [[ -z $(service_pid) ]]; }

# The service failed or restarts again and again: a longer wait does not help.
service_failed() { is_failure "$(systemctl show --property ActiveState,NRestarts "$(service)")"; }
is_failure() { [[ $1 == *ActiveState=failed* ]] || { [[ $1 =~ NRestarts=([0-9]+) ]] && ((BASH_REMATCH[1] > 2)); }; }

# Reports the service, and sets $pid: empty if it does not run.
service_facts() {
  local state
  state=$(systemctl show --property ActiveState,NRestarts,MainPID "$(service)")
  if [[ $state =~ MainPID=([1-9][0-9]*) ]]; then pid=${BASH_REMATCH[1]}; else pid=''; fi
  fact pid "$pid"
  if is_failure "$state"; then fact failed yes; fi
  if on_boot etcd-cluster.service; then fact on_boot yes; fi
  if is_masked; then fact masked yes; else fact masked no; fi
}

# on_boot UNIT: true if `systemctl enable` was run for it. All our units are wanted by multi-user.target.
on_boot() { [[ -L /etc/systemd/system/multi-user.target.wants/$1 ]]; }

service_log() { journalctl --unit "$(service)" --no-pager --output cat --lines "$1" 2>/dev/null || true; }

# put_unit UNIT CONTENT(base64): writes a unit, loads it into systemd, and enables it on boot.
put_unit() {
  put_file 644 root "/etc/systemd/system/$1" "$2" || true
  [[ $1 != etcd-cluster.service ]] || mask_package_unit # first: two units that start on boot would share one data folder
  on_boot "$1" || must systemctl enable --quiet --no-reload "$1"
  unit_loaded "$1" || must systemctl daemon-reload
}

# systemd reads a new unit by itself. The slow daemon-reload is only for a unit that systemd has loaded in an older form.
unit_loaded() {
  local state
  state=$(systemctl show --property LoadState,NeedDaemonReload "$1")
  [[ $state == *LoadState=loaded* && $state == *NeedDaemonReload=no* ]]
}

# Masks the packages' service, so that a package that is installed later starts no etcd beside the member. What its scripts do to
# that service does nothing to ours. Precondition: a member that ran as etcd.service is stopped.
mask_package_unit() {
  if [[ -n $(owner_of "$package_unit") && -z $(service_pid) ]]; then
    systemctl disable --quiet --no-reload etcd.service
    rm -f "$package_unit"
  fi
  [[ ! -e $package_unit ]] || return 0 # a link to nothing is of a package that is gone
  touch "$state_path/masked"
  ln -sfn /dev/null "$package_unit"
  [[ $(systemctl show --property LoadState --value etcd.service) == masked ]] || must systemctl daemon-reload
}
is_masked() { [[ $(readlink "$package_unit") == /dev/null ]]; }
unmask_package_unit() {
  if [[ -f $state_path/masked ]] && is_masked; then rm -f "$package_unit"; fi
  rm -f "$state_path/masked"
}

# Prints which etcd.service is set up here that is not ours: it runs, or may start at the next boot. Nothing for one that is stopped
# and disabled.
other_service() {
  local state file='' pid='' how=''
  [[ -z $(owner_of "$package_unit") ]] || return 0
  if ! state=$(systemctl show --property LoadState,ActiveState,UnitFileState,FragmentPath,MainPID etcd.service); then
    echo "systemd does not answer which etcd.service is set up here"
    return
  fi
  [[ $state =~ FragmentPath=([^$'\n']*) ]] && file=${BASH_REMATCH[1]}
  [[ $state =~ MainPID=([0-9]*) ]] && pid=${BASH_REMATCH[1]}
  case $state in
    *ActiveState=inactive* | *ActiveState=failed*)
      [[ $state != *LoadState=masked* && -n $file ]] || return 0
      case $state in
        *UnitFileState=disabled* | *UnitFileState=static*) [[ $file == "$package_unit" ]] || return 0 ;;
        *) how=" and starts on boot" ;;
      esac
      ;;
    *) how=" and runs, process $pid$(describe_program "$pid")" ;;
  esac
  printf 'etcd.service here is not of this cluster: it is from %s%s' "$(with_package "$file")" "$how"
}

# Prints the files besides ours, one a line, that systemd makes the member's service of, or would after a daemon-reload. A drop-in
# for all services counts if it `decides` anything: distributions and containers have others.
foreign_unit_files() {
  local folder file found folders files=() seen=' '
  if ! found=$(systemctl show --property UnitPath --value); then
    echo "a unit of which systemd does not answer where it is from"
    return
  fi
  read -ra folders < <(printf '%s\n' "$found")
  # Of units, the first counts; of drop-ins, the first of its name.
  for folder in "${folders[@]}"; do
    if [[ -e $folder/etcd-cluster.service ]]; then
      files=("$folder/etcd-cluster.service")
      break
    fi
  done
  for folder in "${folders[@]}"; do
    for file in "$folder"/{etcd-cluster.service,etcd-.service,service}.d/*.conf; do
      [[ -e $file && $seen != *" ${file#"$folder/"} "* ]] || continue
      seen+="${file#"$folder/"} "
      files+=("$file")
    done
  done
  # shellcheck disable=SC2046  # a list of paths
  for file in $(systemctl show --property FragmentPath,DropInPaths --value etcd-cluster.service); do
    [[ " ${files[*]} " == *" $file "* ]] || files+=("$file")
  done
  for file in "${files[@]}"; do
    [[ $file == "$unit_path" ]] || { [[ $file == */service.d/* ]] && ! decides "$file"; } || echo "$file"
  done
}
# decides FILE: true if a drop-in sets anything but what is known to change nothing that a member needs: so a setting of a systemd
# to come counts. The text is judged, not the values of `systemctl show`: there are none before the unit is written and loaded, which
# is too late for check; systemd adds what its version implies and rewrites the rest; and a container may take the sandbox off,
# though the values differ then.
decides() {
  ! awk -v any='^(Description|Documentation|OnFailure|OnSuccess|Wants|After|Before|CollectMode|IgnoreOnIsolate|SyslogIdentifier|Log[A-Z][A-Za-z]*|[A-Za-z]+Accounting|LimitCORE|Coredump[A-Za-z]*|KeyringMode|Environment|PassEnvironment|UnsetEnvironment|TimeoutStopFailureMode|TimeoutAbortSec|Protect[A-Za-z]+|ProcSubset|PrivateTmp|PrivateDevices|PrivateMounts|PrivateIPC|NoNewPrivileges|LockPersonality|MemoryDenyWriteExecute|RemoveIPC|Restrict(Realtime|SUIDSGID|Namespaces))$' \
    -v off='^(Private[A-Za-z]+=(no|false|off|0)|((Restrict|System|Load)[A-Za-z]+|CapabilityBoundingSet|[A-Za-z]+Paths)=)$' \
    -v more='^((Limit[A-Z]+|TasksMax|Memory[A-Za-z]+|TimeoutStartSec)=infinity|UMask=0*[0-7]?[0-7])$' '
    /^[[:space:]]*[#;]/ { next }
    { line = line $0 }
    sub(/\\$/, " ", line) { next }
    {
      gsub(/^[[:space:]]+|[[:space:]]+$/, "", line)
      text = line
      line = ""
    }
    text == "" { next }
    text ~ /^\[/ { read_by_systemd = text == "[Unit]" || text == "[Service]"; next }
    !read_by_systemd { next }
    {
      key = value = text
      sub(/[[:space:]]*=.*/, "", key)
      sub(/^[^=]*=[[:space:]]*/, "", value)
      if (key == "ProtectSystem" && value ~ /^(no|false|off|0)$/) open_to_writes = 1
      if (key == "ReadWritePaths") no_place = 1
      if (key ~ any || (key "=" value) ~ off || (key "=" value) ~ more) next
      if (key == "LimitNOFILE" && value ~ /^[0-9]+$/ && value + 0 >= 65536) next
      if (key == "EnvironmentFile" && value ~ /^(-.*)?$/) next
      found = 1
      exit
    }
    END { exit found || (no_place && !open_to_writes) }' "$1" 2>/dev/null
}

# others_unit FILE EXPECTED: prints that a unit is not this cluster's.
others_unit() {
  printf "%s is somebody else's (it begins with: %s). Expected: %s. Remove it (systemctl disable --now %s; rm %s), or use another machine" \
    "$1" "$(head -n 1 "$1")" "$2" "${1##*/}" "$1"
}

# Prints, one a line, why what systemd starts would not be the member's service as etcd-cluster wrote it, alone.
service_obstacles() {
  local found
  found=$(other_service)
  [[ -z $found ]] || echo "$found. Expected: no other etcd on a member's machine. Stop and disable it (systemctl disable --now etcd), and remove its package or file, or use another machine"
  found=$(foreign_unit_files | paste -sd ' ')
  [[ -z $found ]] || echo "$found changes the unit of the member, etcd-cluster.service. Expected: the unit as etcd-cluster wrote it. Remove this (rm $found; systemctl daemon-reload), or hide a package's file (ln -s /dev/null /etc/systemd/system/service.d/NAME)"
}
require_own_service() {
  local found
  found=$(service_obstacles)
  found=${found%%$'\n'*}
  [[ -z $found ]] || fail "$found, then run again"
}

# shellcheck shell=bash
# Reports the state of this machine and its member. Reads only, but claim=RUN first claims the member for a run, unless its
# data belong to another cluster than that of token=TOKEN. Prints NAME=VALUE lines with contents in base64, and only the sum
# of private keys. The leader's machine also reports the member list and alarms (as-status-source=yes: every machine does).
# Each machine reports its own member's health, because port 2379 may be open to clients only. scheme: http or https, as
# clients are expected to connect.
# shellcheck disable=SC2154
observe() {
  local programs foreign token
  read_spec "$@"
  token=$(data_token)
  if [[ -n ${spec[claim]:-} && (-z $token || -z ${spec[token]:-} || $token == "${spec[token]}") ]]; then claim "${spec[claim]}"; fi
  fact machine "$(machine_identity)"
  fact token "$token"
  fact owner "$(marker_field member)"
  has_data && fact data yes && fact data_of "$(data_cluster)"
  [[ ! -f $volume_path/restored ]] || fact restored "$(cat "$volume_path/restored")"
  fact replaced "$(cat "$volume_path/replaced" 2>/dev/null)"
  fact restoring "$(cat "$volume_path/restoring/ready" 2>/dev/null)"
  fact restoring_source "$(cat "$volume_path/restoring/source" 2>/dev/null)"
  fact forming "$(marker_field token "$state_path/forming")"
  fact formed "$(marker_field token "$state_path/formed")"
  fact versions "$(installed_versions)"
  programs=$(readlink "$binaries_path") && fact programs "$(version_of "$programs")"
  fact claim "$(cat "$state_path/run" 2>/dev/null)"
  service_facts # sets $pid
  foreign=$(foreign_data "$pid")
  fact foreign "$foreign"
  fact running "$(version_of "$(running_programs "$pid")")"
  [[ -e $state_path/pending ]] && fact pending yes
  fact defragmented "$(grep -xE '[0-9]+ [0-9]+ [0-9]+' "$state_path/defragmented" 2>/dev/null)"
  fact snapshot "$(newest_snapshot)"
  [[ ! -f $volume_path/history ]] || observe_history
  [[ ! -d $configuration_path/backup && ! -f $state_path/backup ]] || observe_backup
  [[ $supervisor != systemd ]] || observe_system
  observe_file_system
  observe_files
  [[ -n $foreign ]] || observe_etcd
  [[ ${spec[disk]:-} != yes ]] || observe_disk
  fact clock "$(date +%s)"
}

fact() { [[ -z $2 ]] || printf '%s=%s\n' "$1" "$2"; }

# version_of FOLDER: prints the version of the programs in it; nothing if a program is missing.
version_of() { [[ ! -x $1/etcd || ! -x $1/etcdctl ]] || echo "${1##*/}"; }

installed_versions() {
  local folder
  for folder in "$versions_path"/*; do version_of "$folder"; done | paste -sd ' '
}

observe_system() {
  local device mounted
  foreign_unit_files | sed 's/^/unit_file=/'
  fact other_service "$(other_service)"
  { getent passwd etcd && getent group etcd; } >/dev/null || fact missing user
  [[ -n ${spec[device]:-} ]] || return 0
  if ! mounted=$(mounted_at "$volume_path"); then
    fact missing "disk $volume_path"
  elif ! on_boot data-etcd.mount; then
    fact missing mount-on-boot
  elif device=$(blockdev --getsize64 "$mounted" 2>/dev/null); then
    fact device_bytes "$device"
    fact filesystem_bytes "$(xfs_growfs -n "$volume_path" | awk -F '[ =,]+' '$1 == "data" { print $3 * $5 }')"
  fi
}

observe_file_system() {
  local over
  over=$(mounted_over)
  fact mounted_over "$over"
  over=$(unmounted_from)
  [[ -z $over ]] || fact missing "file-system $over"
}

# Reads line by line. A line that was damaged by hand is left out, and does not change the other lines.
observe_history() {
  awk '/^(series=[0-9.]*|(series|members)_index=[0-9]+|members=[a-z0-9,]*|id=[0-9a-f]*)$/ { print "history_" $0 }' "$volume_path/history"
}

# Reports what came of this machine's last backup, and when its timer runs next.
observe_backup() {
  local timer
  echo backup=yes
  [[ ! -f $state_path/backup ]] ||
    awk '/^(attempt=[0-9]+|result=[a-z]+|(newest|tested)=[0-9A-Za-z._-]*|failure=.*)$/ { print "backup_" substr($0, 1, 1000) }' "$state_path/backup"
  [[ $supervisor == systemd ]] || return 0
  # A run that could not start, or was killed, has noted nothing.
  if systemctl --quiet is-failed etcd-cluster-backup.service; then echo backup_result=failed; fi
  timer=$(TZ=UTC LC_ALL=C systemctl show --property ActiveState,NextElapseUSecRealtime etcd-cluster-backup.timer)
  if [[ $timer == *ActiveState=active* ]]; then fact backup_timer yes; fi
  if [[ $timer =~ NextElapseUSecRealtime=([^$'\n']*UTC) ]]; then fact backup_next "$(date -d "${BASH_REMATCH[1]}" +%s)"; fi
}

# Reports the file system that the data are on, or will be on.
observe_disk() {
  [[ ! -d $volume_path ]] || df --output=size,avail -k "$volume_path" | awk 'END { printf "disk_bytes=%.0f\ndisk_free_bytes=%.0f\n", $1 * 1024, $2 * 1024 }'
}

# Reports the files that etcd-cluster writes, if they exist: mode, owner, content (of a private key: its sum).
observe_files() {
  local mode user path found=()
  for path in "$configuration_path"/{etcd,bootstrap}.yaml "$pki_path"/{ca,peer-ca,server,peer}.crt "$pki_path"/{server,peer}.key ${unit_path:+"$unit_path" /etc/profile.d/etcd.sh}; do
    [[ ! -f $path ]] || found+=("$path")
  done
  ((${#found[@]} > 0)) || return 0
  while read -r mode user path; do
    case $path in
      *.key) printf 'key:%s=%s %s %s\n' "$path" "$mode" "$user" "$(sha256sum <"$path" | cut -d ' ' -f 1)" ;;
      *) printf 'file:%s=%s %s %s\n' "$path" "$mode" "$user" "$(base64 -w 0 "$path")" ;;
    esac
  done < <(stat -c '%a %U %n' "${found[@]}")
}

# Reports what a running member answers. A question without an answer is reported with the reason. The reason has no part that
# changes by itself, such as a time: a run stops waiting once the same reason has lasted for long enough.
observe_etcd() {
  local name url='' answer='' health=''
  if [[ -z $pid ]]; then
    fact database_bytes "$(stat -c %s "$data_path/member/snap/db" 2>/dev/null)"
    ! has_data || fact data_version "$(data_version)"
    return
  fi
  find_sockets "$pid"
  # shellcheck disable=SC2034  # for etcdctl_at
  patience=8 answer_within=2s
  # shellcheck disable=SC2046  # a list of ports
  if metrics $(loopback_ports "$metrics_port"); then
    for name in id is_leader is_learner has_leader version proposals_applied_total proposals_committed_total; do
      fact "$name" "${measured[server_$name]:-}"
    done
    fact cluster_version "${measured[cluster_version]:-}"
    fact database_bytes "${measured[mvcc_db_total_size_in_bytes]:-}"
    fact used_bytes "${measured[mvcc_db_total_size_in_use_in_bytes]:-}"
    fact revision "${measured[debugging_mvcc_current_revision]:-}"
    fact compacted "${measured[debugging_mvcc_compact_revision]:-}"
    fact quota_bytes "${measured[server_quota_backend_bytes]:-}"
    echo "active_peers=${measured[active_peers]}"
    if [[ ${measured[server_has_leader]} == 1 ]]; then observe_health; fi
    if [[ ${spec[rights]:-} == yes ]] || { [[ ${spec[users]:-} == own ]] && had_users; }; then observe_rights; fi
    [[ ${measured[server_is_leader]} == 1 || ${spec[as-status-source]:-} == yes ]] || return 0
  else
    fact unknown "metrics its process does not tell its metrics within 3 seconds ($(describe_process "$pid"))"
    ask endpoint status --write-out json || return 0
    fact status "$(base64 -w 0 < <(printf '%s\n' "$answer"))"
    observe_health
    [[ ${spec[rights]:-} != yes ]] || observe_rights
  fi
  if ! ask member list --write-out json; then
    fact unknown "members its member list could not be read (${answer:0:300})"
    return
  fi
  fact members "$(base64 -w 0 < <(printf '%s\n' "$answer"))"
  if [[ -n ${spec[users]:-} ]]; then observe_authentication; elif [[ ${spec[rights]:-} == yes ]]; then observe_users; fi
  # Since 3.5, etcd's health check includes the alarms.
  [[ $health == *'"health":true'* && ${measured[server_version]:-3.4.} != 3.4.* ]] || observe_alarms
}

# A linearizable read, at the URL where other machines reach the member. Not of a learner: it refuses all of them, and etcdctl asks
# again and again.
observe_health() {
  local found
  [[ ${measured[server_is_learner]:-} != 1 ]] || return 0
  choose_url || return 0
  health=$(health_of "$(outward "$url")")
  if [[ $health != *'"health":true'* && $health != *'Active Alarm'* ]] && found=$(own_client_url) && [[ $found != "$url" ]]; then
    url=$found
    health=$(health_of "$(outward "$url")")
  fi
  if [[ $health == *'"health":true'* ]]; then fact scheme "${url%%:*}"; fi
  fact health "$(printf '%s' "$health" | base64 -w 0)"
}

# With etcd's authentication on, only a user of role root may change the cluster. Tests this member's certificate with a request
# that needs that role and changes nothing: the hash at a revision that no database reaches.
observe_rights() {
  local said
  choose_url || return 0
  said=$(etcdctl_at "$url" endpoint hashkv --rev 9223372036854775807 2>&1) || true
  if [[ $said == *"future revision"* ]]; then
    fact rights yes
  elif is_refusal "$said"; then
    fact rights no
  fi
}

# Whether anything about users, roles or authentication was ever changed here: each change raises that revision, which begins at 1.
had_users() { [[ ${measured[debugging_auth_revision]:-} != 1 ]]; }

# Reports the users if authentication is on. etcd 3.4 does not report whether it is.
observe_users() {
  had_users && [[ $(etcdctl_at "$url" auth status 2>/dev/null) == *"Status: true"* ]] || return 0
  report_users
}

report_users() { fact users "$(etcdctl_at "$url" user list --write-out json 2>/dev/null)"; }

# Reports whether authentication is on, and all users and roles; with users=own none of them, unless there is the role that all
# users of this package have.
observe_authentication() {
  local state roles
  had_users || { fact authentication "$(printf 'off\nasked\n' | base64 -w 0)" && return; }
  state=$(authentication_state) || return 0
  [[ $state == off ]] || report_users
  if [[ ${spec[users]} == own ]]; then
    roles=$(etcdctl_at "$url" role list --write-out json 2>/dev/null) || return 0
    [[ $roles == *'"etcd-cluster"'* ]] || { fact authentication "$(printf '%s\nasked\n' "$state" | base64 -w 0)" && return; }
  fi
  printf 'authentication=%s\n' "$({ echo "$state" && users_and_roles; } 2>/dev/null | base64 -w 0)"
}

# health_of URLS(comma-separated): prints JSON, also for unhealthy members.
health_of() { patience=8 answer_within=2s etcdctl_at "$1" endpoint health --write-out json 2>/dev/null || true; }

# The last line shows that there was an answer: without an alarm, etcdctl prints nothing.
observe_alarms() {
  printf 'alarms=%s\n' "$({ etcdctl_at "$url" alarm list 2>/dev/null && echo asked; } | base64 -w 0)"
}

# choose_url: sets `url`, with the expected scheme, unless it is set already. Fails if no port is for clients.
choose_url() {
  [[ -z $url ]] || return 0
  url=$(own_client_url "${spec[scheme]:-https}") || true
  [[ -n $url ]] || { answer="its process listens on no port for clients" && return 1; }
}

# ask ARGUMENTS...: runs etcdctl at the member's own port, and sets `answer` to the last line of its output or error. Tries the
# expected scheme first, then the other one.
ask() {
  local found
  choose_url || return 1
  if answer=$(etcdctl_at "$url" "$@" 2>&1); then
    answer=${answer##*$'\n'}
    return
  fi
  answer=${answer##*$'\n'}
  found=$(own_client_url) && [[ $found != "$url" ]] || return 1
  url=$found
  answer=$(etcdctl_at "$url" "$@" 2>&1) || { answer=${answer##*$'\n'} && return 1; }
  answer=${answer##*$'\n'}
}

# Prints the version that the cluster was raised to, 3.6.0 for 3.6, as the database of a member that does not run has it; 0.0.0 if it
# has none yet, and nothing if it is unreadable. An older etcd does not start with it. Reads a few pages of that file,
# within a limit, as a damaged one may hold anything.
data_version() {
  # shellcheck disable=SC2016  # awk's own
  database=$data_path/member/snap/db timeout 10 awk '
    function number(place, width,   value) {
      while (width-- > 0) value = 256 * value + byte[place + width]
      return value + 0
    }
    function text(place, size,   found) {
      while (size-- > 0) found = found sprintf("%c", byte[place++] + 0)
      return found
    }
    function fetch(begin, size,   command, line, field, fields, count) {
      command = sprintf("od -An -v -tu1 -j %.0f -N %.0f \"$database\" 2>/dev/null", begin, size)
      while ((command | getline line) > 0) {
        count = split(line, fields, " ")
        for (field = 1; field <= count; field++) byte[begin++] = fields[field]
      }
      close(command)
    }
    # A page has a header of 16 bytes, and then 16 bytes an item, which say where its name and value are. Only a damaged file
    # has more than a few such pages, or one so far behind that an awk cannot count its bytes.
    function look_in_page(begin, name,   size) {
      if (begin > 1e15) exit
      fetch(begin, 16)
      size = page_size * (1 + number(begin + 12, 4))
      looked_at += size + 16384
      if (looked_at > 1048576) exit
      fetch(begin, size)
      look(begin, name)
    }
    function look(begin, name,   item, last, size, place) {
      last = begin + 16 * number(begin + 10, 2)
      for (item = begin + 16; item <= last; item += 16) {
        if (number(begin + 8, 2) == 1) { # its items are on other pages
          look_in_page(page_size * number(item + 8, 8), name)
          continue
        }
        size = number(item + 8, 4)
        place = item + number(item + 4, 4)
        if (size == length(name) && text(place, size) == name) found(name, place + size, number(item + 12, 4))
      }
    }
    function found(name, place, size) {
      if (name == "clusterVersion") {
        version = size < 20 ? text(place, size) : ""
        return
      }
      version = "0.0.0"
      # A small bucket is where its page would be named.
      if (number(place, 8) > 0) look_in_page(page_size * number(place, 8), "clusterVersion")
      else look(place + 16, "clusterVersion")
    }
    BEGIN {
      magic = 3977042669
      fetch(0, 80)
      page_size = number(16, 4) == magic ? number(24, 4) : 4096
      if (page_size < 1024 || page_size > 65536) exit
      fetch(page_size, 80)
      newer = number(64, 8) > number(page_size + 64, 8) ? 0 : page_size
      if (number(newer + 16, 4) != magic) exit
      look_in_page(page_size * number(newer + 32, 8), "cluster")
      if (version ~ /^[0-9]+[.][0-9]+[.][0-9]+$/) print version
    }'
}

# describe_process PID: prints where it listens, and its state if that is unusual, such as stopped.
describe_process() {
  local state=''
  state=$(awk '$1 == "State:" { print $2 $3 }' "/proc/$1/status" 2>/dev/null) || true
  printf 'listens on %s' "$(loopback_ports "$metrics_port" | grep '[0-9]' || echo 'no port')"
  [[ $state == [RS]* ]] || printf ', state %s' "$state"
}

# Prints the hash of the member's keys, up to revision=REVISION if that is given, as etcd tells it, or nothing: another member's differs
# if its data do.
hash_keys() {
  local url
  read_spec "$@"
  find_sockets "$(service_pid)"
  # shellcheck disable=SC2034  # for etcdctl_at
  patience=$((spec[timeout-seconds] + 5)) answer_within=${spec[timeout-seconds]}s
  url=$(own_client_url) && etcdctl_at "$url" endpoint hashkv --rev "${spec[revision]:-0}" --write-out json 2>/dev/null || true
}

# Reports the health of members whose machines give no report: asks at their client ports from this machine (urls=URL,...). Also
# reports which of peers=ID,... send anything to this machine's member within 6 seconds; etcd closes a silent connection after 5.
# Only a member that leads all that time can report that: every running member answers the leader's heartbeats, which come
# several times in it.
health() {
  local pid before started=$SECONDS
  read_spec "$@"
  service_facts >/dev/null # sets $pid
  find_sockets "$pid"
  before=$([[ -z ${spec[peers]:-} ]] || ! has_quick_heartbeat || received)
  fact health "$(health_of "${spec[urls]}" | base64 -w 0)"
  if [[ -n $before ]]; then measure_sending; fi
}

# measure_sending: see `health`, which sets $before, $started and spec[peers].
measure_sending() {
  local after id sending=''
  sleep $((started + 6 > SECONDS ? started + 6 - SECONDS : 0))
  after=$(received)
  # No peer sent anything: no heartbeat was due in that time.
  [[ -n $after && $after != "$before" ]] || return 0
  for id in ${spec[peers]//,/ }; do
    [[ $(bytes_from "$id" "$before") == "$(bytes_from "$id" "$after")" ]] || sending+=${sending:+,}$id
  done
  echo "sending=$sending"
}

# has_quick_heartbeat: true if the heartbeat interval of the running configuration is at most 1 s (etcd's default: 0.1 s).
has_quick_heartbeat() {
  [[ ! -e $state_path/pending && -f $configuration_path/etcd.yaml ]] &&
    awk '$1 == "heartbeat-interval:" && $2 > 1000 { slow = 1 } END { exit slow }' "$configuration_path/etcd.yaml"
}

# received: prints ID BYTES lines: what the member has received from each peer so far. Prints nothing if the member gives no
# metrics, or does not lead.
received() {
  # shellcheck disable=SC2046  # a list of ports
  if metrics $(loopback_ports "$metrics_port") && [[ ${measured[server_is_leader]} == 1 ]]; then printf '%s' "${measured[received]}"; fi
}

# bytes_from ID RECEIVED: prints the bytes of one peer from the output of `received`.
bytes_from() { awk -v id="$1" '$1 == id { print $2 }' < <(printf '%s\n' "$2"); }

# Reports which of these members (urls=URL,...) this machine reaches at their peer ports, as its own member does: with its
# certificate, and from its address, if that is set (source=ADDRESS). etcd's count of active peers alone does not tell: it stays
# at 0 if a request that was sent before a connection was made fails after it, and at 1 until a dropped attempt has ended.
reach() {
  local url
  read_spec "$@"
  cd "$pki_path" || return
  for url in ${spec[urls]//,/ }; do test_peer "$url" & done
  wait
}

# test_peer URL: prints `reached=URL` if a member answers there, and `unreached=URL` if not even a connection can be made. Without
# curl no member answers, and connections come from any address.
test_peer() {
  local options=(-q --http1.1 --noproxy '*' --globoff --silent --fail --max-time 3 --output /dev/null) place=${1#*://} host port code=0
  if ! command -v curl >/dev/null; then
    host=${place%:*} port=${place##*:}
    host=${host#[} host=${host%]}
    # shellcheck disable=SC2016  # for that shell
    timeout 3 bash -c ': <>"/dev/tcp/$0/$1"' "$host" "${port%%/*}" 2>/dev/null || echo "unreached=$1"
    return
  fi
  [[ -z ${spec[source]:-} ]] || options+=(--interface "${spec[source]}")
  # Relative paths: curl would take a ":" in one for the begin of a password.
  [[ $1 != https:* ]] || options+=(--cacert ./peer-ca.crt --cert ./peer.crt --key ./peer.key)
  curl "${options[@]}" "$1/raft/probing" 2>/dev/null || code=$?
  case $code in
    0) echo "reached=$1" ;;
    6 | 7 | 28) echo "unreached=$1" ;; # no such name, no connection, no time left
  esac
}

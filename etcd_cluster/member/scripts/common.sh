# shellcheck shell=bash
# Functions of all steps: arguments, messages, locking, atomic files, requests to etcd. Variables that are not assigned here
# come from render.py.
# shellcheck disable=SC2154
set -euo pipefail
umask 022
# Limits of the log-in (pam_limits, a login file): lifted as far as this user may.
for limit in d f m n t v; do ulimit "-$limit" unlimited 2>/dev/null || ulimit -S "-$limit" hard 2>/dev/null || true; done

# Reads the KEY=VALUE pairs of the line that runs this script into `spec`.
declare -A spec=()
read_spec() {
  shift # the step's name
  local pair
  for pair in "$@"; do spec[${pair%%=*}]=${pair#*=}; done
}

# MiB that are needed for a step's own files, for the programs, and for the next segment of etcd's log.
# shellcheck disable=SC2034  # for the steps
ROOM_MIB=10 PROGRAMS_MIB=200 LOG_SEGMENT_MIB=64

# say TEXT: prints one short line of progress.
say() { printf '%s: %s\n' "${spec[member]:-cluster}" "$*" >&2; }

# fail TEXT: ends the step. TEXT says what is wrong, with the value, and what to do; $failure_path, if it is set, gets it as well.
FAILED=70
fail() {
  printf 'error: %s: %s\n' "${spec[member]:-cluster}" "$*" >&2
  [[ -z ${failure_path:-} ]] || printf '%s\n' "$*" >"$failure_path"
  exit "$FAILED"
}

# must COMMAND...: runs it; if it fails, the step fails with what it said.
must() {
  local said
  said=$("$@" 2>&1) || fail "$(last_words "${said:-$1 ended with $?}"); fix it, then run \`pulumi up\` again"
}

# at_exit FUNCTION: runs it when the step ends, however it ends, before those that were given earlier. $ended is the step's status; of one
# that a signal ends, 0 as well.
# not_at_exit FUNCTION: takes it back.
exits=''
at_exit() { exits="$1 $exits"; }
not_at_exit() { exits=${exits//"$1 "/}; }
end_step() {
  local function
  # shellcheck disable=SC2034  # for those functions
  ended=$1
  trap - ERR
  set +e
  for function in $exits; do (
    set -e
    "$function"
  ); done
  # `set -e` ended the step: only the command has said why.
  case $ended in
    0 | "$FAILED" | "$BUSY") ;;
    *) (fail "$step: ${failing:-it} ended with $ended (its own message is above). Expected: no failure. Fix its cause, then run \`pulumi up\` again") ;;
  esac
  exit "$ended"
}

# as_step COMMAND...: in a shell of its own, runs it until its first failure, and then what it gave to at_exit.
as_step() {
  trap 'failing=$BASH_COMMAND' ERR
  trap 'end_step "$?"' EXIT
  set -eE
  "$@"
}

# answer STEP PAIR...: runs the step. What it prints gets a frame, so that whoever reads it can tell it from what a login file
# prints, and from a part of it. Only ASCII is counted: of a character that was cut, its reader sees another number of bytes.
# Standard input is this script, which no program may eat.
answer() {
  local printed
  step=$1
  printed=$(as_step "$1" "$@" </dev/null)
  local ascii=${printed//[![:ascii:]]/}
  printf '\netcd-cluster answers:\n%s\netcd-cluster answered, ASCII bytes: %s\n' "$printed" "${#ascii}"
}

# last_words TEXT: prints the end of what another program printed, as one line.
last_words() { printf '%s\n' "$1" | tail -n 3 | tr -s '\n ' ' ' | cut -c1-300 | sed 's/ $//'; }

# lock [SECONDS]: one step at a time on a machine. A step of an earlier run that lost its connection may still run here, and ends by
# itself; a short wait is no news. Whoever sends a step asks again if it ends with BUSY, so that the wait does not count for the
# step's own limit.
BUSY=75
lock() {
  must mkdir -p "$state_path"
  must touch "$state_path/lock"
  exec 9>"$state_path/lock"
  ! flock --wait "${quiet_seconds:-15}" 9 || return 0
  say "waits for another step, which still runs on this machine"
  flock --wait "${1:-${lock_seconds:-20}}" 9 || (fail "a step of another run is at work on this machine; wait for it, then run again") || exit "$BUSY"
}

# If several runs overlap, the newest one takes over, and an older one (whose process was killed or whose connection was lost)
# stops at its next step. A claim waits for a step that is running here.
claim() {
  lock
  put_file 644 "$(id -un)" "$state_path/run" "$(printf '%s' "$1" | base64 -w 0)" || true
}
require_claim() {
  [[ $(cat "$state_path/run" 2>/dev/null) == "${spec[run]}" ]] || fail "a later run has taken this cluster over; this one ends here"
}

# wait_until SECONDS COMMAND...: returns 0 once the command succeeds, 1 after that time. $pause is the time between two attempts.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep "${pause:-0.05}"
  done
}

# figures_of_metrics: prints the file that the metrics' program placed here writes for node_exporter; nothing without one.
figures_of_metrics() {
  local textfile_folder='' program=$configuration_path/monitoring/program
  [[ ! -f $program ]] || eval "$(grep -a -m 1 '^textfile_folder=' "$program")"
  [[ -z $textfile_folder ]] || printf '%s\n' "$textfile_folder/etcd-cluster.prom"
}

# file_differs PATH CONTENT(base64): true also if the file does not exist.
file_differs() {
  [[ ! -f $1 ]] || ! printf '%s' "$2" | base64 -d | cmp -s - "$1"
}

# put_file MODE OWNER(member: the user that etcd runs as) PATH CONTENT(base64): writes a file atomically if it differs. Returns 0 if
# it wrote, 1 if not. Calls `fail` if it cannot write: callers test the status, which turns `set -e` off in here.
put_file() {
  local mode=$1 user=$2 path=$3 content=$4 said
  [[ $user != member ]] || user=$owner
  if ! file_differs "$path" "$content" && [[ $(stat -c '%a %U' "$path") == "$mode $user" ]]; then return 1; fi
  said=$({
    new=$(mktemp "${path%/*}/.new-XXXXXX") &&
      printf '%s' "$content" | base64 -d >"$new" &&
      chmod "$mode" "$new" &&
      { ((EUID != 0)) || chown "$user:" "$new"; } &&
      sync "$new" &&
      mv -f "$new" "$path"
  } 2>&1) || fail "cannot write $path: $(last_words "$said"); fix it, then run \`pulumi up\` again"
}

# Makes the folders of keys and configuration, which may have been deleted by hand, or belong to the number that etcd had before.
make_file_folders() {
  must mkdir -p "$configuration_path" "$pki_path"
  [[ $supervisor != systemd ]] || must chown etcd: "$pki_path"
  chmod 500 "$pki_path" 2>/dev/null || true
  [[ $supervisor == systemd ]] || chmod 700 "$pki_path"
}

# require_space MIB FOLDER...: fails unless there is room for what is about to be written.
require_space() {
  local folder free inodes
  for folder in "${@:2}"; do
    free=$(($(df --output=avail -k "$folder" | tail -n 1) / 1024))
    ((free >= $1)) || fail "$folder: $free MiB free, but $1 MiB are needed there; free some space, then run again"
    read -r inodes free < <(df --output=itotal,iavail "$folder" | tail -n 1)
    [[ ! $inodes =~ ^[1-9] ]] || ((free >= 20)) || fail "$folder: its file system has room for $free more files, but 20 are needed there; remove some, then run again"
  done
}

# etcdctl_at URLS(comma-separated) ARGUMENTS...: runs etcdctl with the member's certificate, which is a client certificate, too.
credentials_path=$pki_path credentials=server
# Without the link to the programs, uses those of any installed version.
etcdctl_at() {
  local tls=() program
  for program in "$binaries_path/etcdctl" "$versions_path"/*/etcdctl; do
    [[ ! -x $program ]] || break
  done
  if [[ $1 == *https:* ]]; then
    tls=(--cacert "$credentials_path/ca.crt" --cert "$credentials_path/$credentials.crt" --key "$credentials_path/$credentials.key")
  fi
  timeout "${patience:-15}" "$program" --endpoints "$1" --dial-timeout 2s --command-timeout "${answer_within:-5s}" "${tls[@]}" "${@:2}"
}

# find_sockets PID: sets `sockets` to PORT ADDRESS lines of where the process listens, "any" for all addresses. It asks the
# kernel, because files may be edited, lost, or written for the next start.
find_sockets() {
  sockets=''
  [[ -n $1 ]] || return 0
  sockets=$({ find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null || true; } | awk '
    function number(hex,   place, found) {
      for (place = 1; place <= length(hex); place++) found = found * 16 + index("123456789ABCDEF", substr(hex, place, 1))
      return found
    }
    function version_4(hex) {
      return number(substr(hex, 7, 2)) "." number(substr(hex, 5, 2)) "." number(substr(hex, 3, 2)) "." number(substr(hex, 1, 2))
    }
    function version_6(hex,   word, found, bytes) {
      for (word = 0; word < 4; word++) {
        bytes = substr(hex, word * 8 + 1, 8)
        found = found ":" substr(bytes, 7, 2) substr(bytes, 5, 2) ":" substr(bytes, 3, 2) substr(bytes, 1, 2)
      }
      return "[" substr(found, 2) "]"
    }
    source == "process" { own[$1]; next }
    $4 == "0A" && ("socket:[" $10 "]") in own {
      split($2, socket, ":")
      if (socket[1] ~ /^0+$/) address = "any"
      else if (length(socket[1]) == 8) address = version_4(socket[1])
      else if (socket[1] ~ /^0+FFFF0000/) address = version_4(substr(socket[1], 25))
      else address = version_6(socket[1])
      print number(socket[2]), address
    }' source=process - source=kernel /proc/net/tcp /proc/net/tcp6 2>/dev/null) || true
}

# loopback_ports WANTED: prints the ports of `sockets` that are reachable on loopback; WANTED first, if it is one of them.
loopback_ports() {
  local port address found=''
  while read -r port address; do
    case $address in
      any | 127.0.0.1) if [[ $port == "$1" ]]; then found="$port $found"; else found="$found $port"; fi ;;
    esac
  done < <(printf '%s\n' "$sockets")
  echo "$found"
}

# http_get PORT PATH SECONDS: prints the answer on loopback without TLS, with headers. The limit includes the connection.
http_get() {
  # shellcheck disable=SC2016  # that shell's own
  timeout "$3" bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET %s HTTP/1.0\r\n\r\n" "$1" >&3 && exec cat <&3' "$1" "$2" 2>/dev/null
}

# is_refusal TEXT: true if etcd refused it to this user, and not for another reason.
is_refusal() { [[ $1 == *"permission denied"* || $1 == *"user not found"* || $1 == *"user name not found"* || $1 == *"user name is empty"* ]]; }

# own_client_url [SCHEME]: prints the URL of `sockets` at which the member answers clients on loopback; every member listens there.
# Without SCHEME, it is https unless the member answers plain HTTP. That test leaves a line in etcd's log.
own_client_url() {
  local port url scheme
  for port in $(loopback_ports "$client_port"); do
    scheme=${1:-https}
    if [[ -z ${1:-} && $(http_get "$port" /version 2 | head -n 1) == HTTP/*' 200 '* ]]; then scheme=http; fi
    url=$scheme://127.0.0.1:$port
    # The member does not listen on the desired port: then another one of its ports is for clients.
    if [[ $port == "$client_port" ]] || patience=8 answer_within=2s etcdctl_at "$url" endpoint status >/dev/null 2>&1; then
      echo "$url"
      return
    fi
  done
  return 1
}

# find_client_url [SCHEME]: sets `url` to that URL, or fails.
find_client_url() {
  find_sockets "$(service_pid)"
  # shellcheck disable=SC2034  # for the steps
  url=$(own_client_url "$@") || fail "etcd listens on no port for clients here. Expected: a member that runs. Look at its log (journalctl -u etcd-cluster) and run again"
}

# outward URL: prints the URL by which other machines reach that port: with the address that is listened on, if there is one.
outward() {
  local port address
  while read -r port address; do
    case $address in
      any | 127.*) ;;
      *) if [[ $port == "${1##*:}" ]]; then
        echo "${1%%:*}://$address:$port"
        return
      fi ;;
    esac
  done < <(printf '%s\n' "$sockets")
  echo "$1"
}

# metrics PORT...: sets `measured` to the member's metrics, from the first of these ports that has them: name without "etcd_" ->
# value, or the value of its label; `active_peers`: ids of the members that it has a connection with, comma-separated;
# `received`: ID BYTES lines, one a peer. Asks without TLS, on loopback. /health would not do: on 3.4, it writes to the log.
# etcd sorts metrics by name: an answer with the last one, the version, is complete.
metrics() {
  local port name value seconds=3
  for port in "$@"; do
    declare -gA measured=([active_peers]='' [received]='')
    while read -r name value; do
      if [[ $name =~ ^etcd_network_active_peers\{.*Remote=\"([0-9a-f]+)\" ]]; then
        [[ $value == 0 ]] || measured[active_peers]+="${measured[active_peers]:+,}${BASH_REMATCH[1]}"
        continue
      fi
      if [[ $name =~ ^etcd_network_peer_received_bytes_total\{From=\"([0-9a-f]+)\" ]]; then
        # From "0": the connection is tested, and the peer is not identified.
        [[ ${BASH_REMATCH[1]} == 0 ]] || measured[received]+="${BASH_REMATCH[1]} $value"$'\n'
        continue
      fi
      # The version that the cluster had before is still there, with 0.
      [[ $name != etcd_cluster_version* || $value == 1 ]] || continue
      if [[ $name =~ ^([a-z_]+)\{[a-z_]+=\"(.*)\"\}$ ]]; then name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}; fi
      measured[${name#etcd_}]=$value
    done < <(http_get "$port" /metrics "$seconds" |
      grep -aE '^etcd_(server_(id|is_leader|is_learner|has_leader|version|proposals_(applied|committed)_total)|cluster_version|mvcc_db_total_size_in(_use_in)?_bytes|debugging_(auth|mvcc_current|mvcc_compact)_revision|server_quota_backend_bytes|network_(active_peers|peer_received_bytes_total))[{ ]')
    [[ -z ${measured[server_version]:-} ]] || return 0
    seconds=1 # one that hangs does so on all of its ports
  done
  declare -gA measured=()
  return 1
}

# ask_metrics: sets `measured` to the metrics of the member that runs here; false if it gives none.
ask_metrics() {
  find_sockets "$(service_pid)"
  # shellcheck disable=SC2046  # a list of ports
  metrics $(loopback_ports "$metrics_port")
}
# learn_metrics: as ask_metrics, or fails. On a busy machine, one attempt is not enough.
learn_metrics() {
  pause=1 wait_until 30 ask_metrics || fail "etcd gives no metrics here. Expected: a member that runs. Look at its log (journalctl -u etcd-cluster), and run \`pulumi up\`"
}

# owner_of FILE: prints the token of the cluster that a file belongs to, from the first line of files by etcd-cluster.
owner_of() {
  local line=''
  [[ ! -f $1 ]] || read -r line <"$1" || true
  [[ $line != '# etcd-cluster: '* ]] || printf '%s' "${line#'# etcd-cluster: '}"
}

# marker_field NAME [FILE]: prints a field of the marker beside the data, or of a copy of it; nothing without that file.
data_token() { marker_field token; }
# The file is JSON, and the field was written by json_text.
marker_field() {
  local file=${2:-$volume_path/etcd-cluster.json} marker='' pattern="\"$1\": \"(([^\"\\\\]|\\\\.)*)\""
  [[ ! -f $file ]] || marker=$(<"$file")
  [[ ! $marker =~ $pattern ]] || printf '%s' "${BASH_REMATCH[1]}"
}

# json_text TEXT: prints a text as between the quotes of JSON. No text here has control characters.
json_text() {
  local text=${1//\\/\\\\}
  printf '%s' "${text//\"/\\\"}"
}

# Copies of the marker are on the machine's own disk, apart from the data: "forming" is written before etcd first starts without
# data, "formed" once it has data. A machine with "formed" and without data has lost its data.
note() {
  if put_file 644 "$(id -un)" "$state_path/$1" "$(base64 -w 0 "$volume_path/etcd-cluster.json")"; then sync "$state_path"; fi
}
note_data() {
  [[ -f $volume_path/etcd-cluster.json ]] || return 0
  note formed
  rm -f "$state_path/forming"
}

# is_noted_as_ours TOKEN: true if this machine had data of this member, formed under that token, and their history exists: then
# only the marker was lost.
is_noted_as_ours() {
  [[ -f $volume_path/history && $(marker_field token "$state_path/formed") == "$1" && $(marker_field member "$state_path/formed") == "${spec[member]}" ]]
}

# Prints which part of the data is a link to where the unit does not let etcd write; nothing if none is.
link_out_of_data() {
  local link
  [[ $supervisor == systemd ]] || return 0
  for link in "$data_path"/member{,/wal,/snap}; do
    if [[ -L $link && -e $link && $(readlink -e "$link") != "$(readlink -e "$data_path")"/* ]]; then
      echo "$link is a link to $(readlink -e "$link"), and etcd's unit lets etcd write below $data_path alone; move those data to the place of the link"
      return
    fi
  done
}

# Data from before the machine was reinstalled belong to the number that the user etcd had then, and files that were restored by
# hand belong to root.
make_data_folder() {
  local obstacle
  obstacle=$(link_out_of_data)
  [[ -z $obstacle ]] || fail "$obstacle, then run again"
  must mkdir -p "$data_path"
  must chmod 700 "$data_path"
  # While etcd runs, its files come and go.
  [[ $supervisor != systemd || -n $(service_pid) ]] || find -H "$data_path" ! -user etcd -exec chown --no-dereference etcd: {} +
}

# True if there is a log, as etcd itself tests it: without a log, it starts as a new member.
has_data() { [[ -d $data_path/member/wal ]]; }
# True if there is any file of etcd's, also one that it could not start from.
holds_data() { [[ -e $data_path/member ]]; }

# True if etcd began its log and wrote nothing into it: its start failed, it took no part in the cluster, and holds no data. With
# such a log it would never start as a new member. A log begins with three records, of types 4, 1 and 5; zeros follow the last one.
is_unused_log() {
  local files=("$data_path"/member/wal/*.wal)
  ((${#files[@]} == 1)) && [[ $(od -An -v -tu1 -N 256 "${files[0]}" 2>/dev/null | awk '
    { for (field = 1; field <= NF; field++) byte[count++] = $field }
    END {
      start = 0 # as a subscript, nothing is another than 0
      while (start + 9 < count) {
        size = 0
        for (place = 6; place >= 0; place--) size = 256 * size + byte[start + place]
        if (size == 0) break
        printf "%s ", byte[start + 9]
        start += 8 + size + (byte[start + 7] >= 128 ? byte[start + 7] % 8 : 0)
      }
      print start + 9 < count ? "end" : "more"
    }') == '4 1 5 end' ]]
}

# Prints the id of the cluster that the data belong to, from the begin of etcd's own log; nothing if it is unreadable. Restored
# data belong to another cluster than the data before, whatever the marker beside them says.
data_cluster() {
  local file newest=''
  for file in "$data_path"/member/wal/*.wal; do newest=$file; done
  [[ -f $newest ]] || return 0
  # A frame is 8 bytes with length and padding, then a record: type, sum, content. The first record holds only a sum.
  od -An -v -tu1 -N 256 "$newest" | awk '
    function number(  text) {
      while (place < count) {
        text = text sprintf("%02x", byte[place])
        if (byte[place++] < 128) return text
      }
    }
    { for (field = 1; field <= NF; field++) byte[count++] = $field }
    END {
      start = 0 # as a subscript, nothing is another than 0
      for (frame = 1; frame <= 2; frame++) {
        place = start + 8
        start = place + byte[start] + 256 * byte[start + 1] + (byte[start + 7] >= 128 ? byte[start + 7] % 8 : 0)
        if (byte[place++] != 8) exit
        type = byte[place++]
        if (byte[place++] != 16) exit
        number()
        if (type != 1) continue
        place += 2
        if (byte[place++] != 8) exit
        number()
        if (byte[place++] == 16) print number()
        exit
      }
    }'
}

# fail_with_log TEXT: like `fail`, with the last lines of etcd's log.
fail_with_log() { fail "$1; the last lines of its log:"$'\n'"$(log)"; }

log() { service_log 20 | cut -c1-400; }

# peer_log peer=ID name=NAME: prints the last line of etcd's log on a connection with that member. A rejected connection is known by
# the name in the certificate that was shown. Of other lines, warnings count first. That a heartbeat came late is no news of a connection.
PEER_LOG_LINES=5000
peer_log() {
  read_spec "$@"
  service_log "$PEER_LOG_LINES" | id=${spec[peer]} name="\"${spec[name]}\"" awk '
    /rejected connection/ { if (index($0, ENVIRON["name"])) warning = $0; next }
    !index($0, ENVIRON["id"]) || /failed to send out heartbeat on time/ { next }
    /"level":"(warn|error)"/ { warning = $0; next }
    { other = $0 }
    END { if (warning "" != "") print warning; else if (other "" != "") print other }' | cut -c1-400
}

# listening PORT: true if a program of this machine listens on that port, on any address.
listening() {
  awk -v port="$(printf ':%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# held_by_others PORT...: prints, one a line, which of these ports another program than the member listens on.
held_by_others() {
  local port pid name
  find_sockets "$(service_pid)"
  for port in "$@"; do
    if ! listening "$port" || grep -q "^$port " < <(printf '%s\n' "$sockets"); then continue; fi
    read -r pid name < <(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\2 \1/p') || true
    echo "port $port is taken by ${pid:+$name, process }${pid:-another program}${pid:+$(describe_program "$pid")}"
  done
}

# describe_program PID: prints its file, the package of that, and its service, as far as they are known.
describe_program() {
  local program service
  program=$(readlink "/proc/$1/exe") || return 0
  service=$(sed -n 's|.*/\([^/]*\.service\).*|\1|p' "/proc/$1/cgroup" 2>/dev/null | head -n 1)
  printf ' (%s%s)' "$(with_package "$program")" "${service:+, in $service}"
}

# with_package FILE: prints the path, and the package that it is from.
with_package() {
  local package=''
  # Packages may know a file below /usr by its path without /usr.
  if command -v dpkg-query >/dev/null; then
    package=$(dpkg-query --search "$1" "/usr$1" "${1#/usr}" 2>/dev/null | sed -n '1s/: .*//p') || true
  elif command -v rpm >/dev/null; then
    package=$(rpm --query --file --queryformat '%{NAME}' "$1" 2>/dev/null) || package=''
  fi
  printf '%s%s' "$1" "${package:+, of package $package}"
}

# running_programs [PID]: prints the folder of the running program, which may differ from the one that would be started.
running_programs() {
  local pid=${1-$(service_pid)} program
  [[ -n $pid ]] && program=$(readlink "/proc/$pid/exe") || return 0
  echo "${program%/*}"
}

# foreign_data PID: prints the folder of the process's database, if that is not on the volume of this member: then the etcd is not
# this member's, whatever its service is called. Prints nothing for our member, and for one that has opened no database yet.
foreign_data() {
  local file volume data found=''
  [[ -n $1 ]] || return 0
  volume=$(readlink -m "$volume_path") data=$(readlink -m "$data_path")
  while read -r file; do
    [[ $file != "$volume"/* && $file != "$data"/* ]] || return 0
    found=$file
  done < <(find "/proc/$1/fd" -lname '*/member/snap/db*' -printf '%l\n' 2>/dev/null)
  printf '%s' "$found"
}

# Prints the index of etcd's newest snapshot of its log, in decimal; the files are named TERM-INDEX.snap.
newest_snapshot() {
  local file newest=''
  for file in "$data_path"/member/snap/*-*.snap; do newest=${file##*-}; done
  newest=${newest%.snap}
  [[ ! $newest =~ ^[0-9a-f]+$ ]] || echo "$((16#$newest))"
}

# shellcheck shell=bash
# Writes what etcd itself has no metric for, in the text format of Prometheus. A timer runs it each minute. It changes nothing of
# the member's, and what it cannot find out has no line: alerts tell of that.
# shellcheck disable=SC2154
# metrics_file: also runs the command for failures, if a unit has failed since the last time.
metrics_file() {
  read_spec "$@"
  local text
  must mkdir -p "${metrics_path%/*}"
  text=$(all_metrics)
  publish "$metrics_path" "$text"
  [[ -z $textfile_folder ]] || publish "$textfile_folder/etcd-cluster.prom" "$text"
  [[ ! -x $hook_path ]] || tell_failures
}

# publish FILE TEXT: a reader sees the whole file or the one before. The folder may be another user's: what is written to is a new file,
# and no link that lies there.
publish() {
  local fresh
  rm -f "$1".new-*
  fresh=$(mktemp "$1.new-XXXXXX")
  printf '%s\n' "$2" >"$fresh"
  chmod 644 "$fresh"
  mv -fT "$fresh" "$1"
}

# metric NAME HELP: begins a gauge. value VALUE [LABEL VALUE]...: adds a line of it; none without VALUE.
metric() {
  metric_name=etcd_cluster_$1
  printf '# HELP %s %s\n# TYPE %s gauge\n' "$metric_name" "$2" "$metric_name"
}
value() {
  local number=$1 labels
  [[ -n $number ]] || return 0
  shift
  labels="cluster=\"$(json_text "$cluster")\",member=\"${spec[member]}\""
  while (($# > 0)); do
    labels+=",$1=\"$2\""
    shift 2
  done
  printf '%s{%s} %s\n' "$metric_name" "$labels" "$number"
}

all_metrics() {
  metric timestamp_seconds 'Time on this machine when these figures were written.'
  value "$(date +%s.%3N)"
  metric clock_synchronized '1 if the kernel calls its clock synchronised.'
  value "$(clock_synchronized)"
  alarm_metrics
  certificate_metrics
  disk_metrics
  [[ ! -d $configuration_path/backup ]] || backup_metrics
}

clock_synchronized() {
  case $(timedatectl show --property NTPSynchronized --value 2>/dev/null) in
    yes) echo 1 ;;
    no) echo 0 ;;
  esac
}

# Alarms are the cluster's: each member that answers knows all of them.
alarm_metrics() {
  local url said='' type answered=0
  find_sockets "$(service_pid)"
  if url=$(own_client_url) && said=$(patience=10 answer_within=5s etcdctl_at "$url" alarm list 2>/dev/null); then answered=1; fi
  metric alarms_answered '1 if the member said which alarms stand.'
  value "$answered"
  metric alarms 'Members with this alarm of etcd.'
  ((answered == 1)) || return 0
  for type in NOSPACE CORRUPT; do value "$(grep -c "alarm:$type" < <(printf '%s\n' "$said") || true)" type "$type"; done
}

# Ends of certificates on this machine, and, told by the last `up`, of those that clients have.
certificate_metrics() {
  local file name end
  metric certificate_expiry_timestamp_seconds 'End of a certificate.'
  for file in "$pki_path"/{server,peer}.crt "$monitoring_path/server.crt"; do
    name=${file##*/} name=${name%.crt}
    [[ $file != "$monitoring_path"/* ]] || name=monitoring-server
    if end=$(end_of <"$file"); then value "$end" certificate "$name"; fi 2>/dev/null
  done
  while read -r name end; do
    [[ -z $name ]] || value "$end" certificate "$name"
  done < <(printf '%s\n' "$client_ends")
  metric ca_expiry_timestamp_seconds 'End of the newest trusted CA.'
  for file in "$pki_path"/{ca,peer-ca}.crt "$monitoring_path/ca.crt"; do
    name=${file##*/} name=${name%.crt}
    [[ $file != "$monitoring_path"/* ]] || name=monitoring-ca
    if end=$(end_of <"$file"); then value "$end" ca "$name"; fi 2>/dev/null
  done
}
# end_of: prints when the first certificate of standard input ends.
end_of() {
  local end
  end=$(openssl x509 -noout -enddate 2>/dev/null) || return 1
  date -d "${end#*=}" +%s
}

disk_metrics() {
  local size free
  read -r size free < <(df --block-size=1 --output=size,avail "$volume_path" | tail -n 1)
  metric data_disk_bytes 'Size of the file system with the data.'
  value "$size"
  metric data_disk_available_bytes 'Free part of the file system with the data.'
  value "$free"
}

# A backup that was never made counts as one that is as old as its timer, so that a timer that makes none shows.
backup_metrics() {
  local newest tested set_up
  set_up=$(stat -c %Y /etc/systemd/system/etcd-cluster-backup.timer 2>/dev/null) || set_up=''
  newest=$(seconds_of "$(noted_of_backup newest)") tested=$(seconds_of "$(noted_of_backup tested)")
  metric backup_interval_seconds 'Time between two backups.'
  value "$backup_every"
  metric backup_newest_timestamp_seconds 'Time of the newest backup in the store.'
  value "${newest:-$set_up}"
  if [[ -n $backup_test_every ]]; then
    metric backup_test_interval_seconds 'Time between two tests of backups.'
    value "$backup_test_every"
    metric backup_tested_timestamp_seconds 'Time of the newest backup that was restored to test it.'
    value "${tested:-$set_up}"
  fi
  metric backup_failed '1 if the last run for a backup on this machine failed.'
  case $(noted_of_backup result) in
    success) if systemctl --quiet is-failed etcd-cluster-backup.service; then value 1; else value 0; fi ;;
    '') ;;
    *) value 1 ;;
  esac
  metric members_differ '1 if members did not hold the same keys when a backup compared them.'
  if [[ -s $state_path/members-differ ]]; then value 1; else value 0; fi
}
noted_of_backup() { sed -n "s/^$1=//p" "$state_path/backup" 2>/dev/null || true; }
# seconds_of NAME: prints the time in the name of a backup; nothing for "".
seconds_of() {
  local slot=$1
  [[ $slot =~ ^([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z ]] || return 0
  date -u -d "${BASH_REMATCH[1]}-${BASH_REMATCH[2]}-${BASH_REMATCH[3]} ${BASH_REMATCH[4]}:${BASH_REMATCH[5]}:${BASH_REMATCH[6]}" +%s
}

# tell_failures: runs the command once for each failure. A unit that restarts by itself counts each time, once it has restarted.
tell_failures() {
  local unit what now restarts
  for unit in etcd-cluster.service etcd-cluster-backup.service; do
    [[ $(systemctl show --property SubState --value "$unit") != auto-restart ]] || continue
    what=$(systemctl show --property Result --value "$unit")
    restarts=$(systemctl show --property NRestarts --value "$unit")
    [[ $what != success || ${restarts:-0} != 0 ]] || continue
    [[ $what != success ]] || what=restarted
    now="$what ${restarts:-0} $(systemctl show --property InactiveEnterTimestampMonotonic --value "$unit")"
    [[ $(cat "$state_path/failure-of-$unit" 2>/dev/null) != "$now" ]] || continue
    printf '%s\n' "$now" >"$state_path/failure-of-$unit"
    timeout 60 "$hook_path" "$unit" "$what" >/dev/null 2>&1 </dev/null || say "monitoring.onFailure: the command for $unit ended with $?"
  done
}

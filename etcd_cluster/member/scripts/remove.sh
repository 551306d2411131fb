# shellcheck shell=bash
# shellcheck disable=SC2154
# Writes the id of the host record that this machine belongs to. Only that record removes the member again.
record() {
  read_spec "$@"
  lock
  put_file 644 "$(id -un)" "$state_path/record" "$(printf '%s' "${spec[record]}" | base64 -w 0)" || true
  sync "$state_path"
}

# Removes a member from its machine on `destroy`: stops etcd, and removes programs and keys. The data stay, unless deleteData
# is set. Precondition: a file on the machine names this cluster, and none names another one. A host that was unlisted long
# ago may run the etcd of another cluster now.
remove() {
  local owners other pid
  read_spec "$@"
  lock
  if [[ -f $state_path/record && $(cat "$state_path/record") != "${spec[record]:-}" ]]; then
    say "this machine is in the record of another resource by now; nothing was stopped or removed"
    return
  fi
  pid=$(service_pid)
  other=$(foreign_data "$pid")
  if [[ -n $other ]]; then
    say "the etcd on this machine is somebody else's by now (its database is $other); nothing was stopped or removed"
    return
  fi
  owners=$(owners)
  other=$(grep -vxF -e "$token" -e "$cluster" -e '' < <(printf '%s\n' "$owners") | head -n 1) || true
  if [[ -n $other ]]; then
    say "the etcd on this machine belongs to another cluster by now (token $other); nothing was stopped or removed"
    return
  fi
  other=$(unowned_file)
  if [[ -z $pid && -n $other ]]; then
    say "$other does not say that it is this cluster's; nothing was stopped or removed"
    return
  fi
  if [[ -z $owners && ! -f $state_path/record ]]; then
    say "no record, configuration or unit of this cluster is on this machine; it is left as it is"
    return
  fi
  claim "${spec[run]}"
  # A leader that stops waits 7 seconds for a successor. If all members stop at once, there is no successor. A leader that
  # has lost its quorum does not lead any more, and stops at once.
  [[ ${spec[members]} == 1 ]] || wait_until 3 follows || true
  service_stop
  if [[ $supervisor == systemd ]]; then
    systemctl disable --quiet --no-reload etcd-cluster.service "$(service)" 2>/dev/null || true
    [[ -z $(owner_of "$package_unit") ]] || rm -f "$package_unit"
    systemctl disable --quiet --now etcd-cluster-backup.timer 2>/dev/null || true
    systemctl stop etcd-cluster-backup.service 2>/dev/null || true
    systemctl disable --quiet --now etcd-cluster-monitoring.service etcd-cluster-metrics.timer 2>/dev/null || true
    rm -f "$unit_path" /etc/profile.d/etcd.sh /etc/systemd/system/etcd-cluster-backup.{service,timer} \
      /etc/systemd/system/etcd-cluster-m{onitoring.service,etrics.service,etrics.timer}
    unmask_package_unit
    must systemctl daemon-reload
  fi
  rm -rf "$pki_path" "$versions_path" "$binaries_path" "$state_path/pending"
  if [[ ${spec[delete-data]:-} == yes ]] && { holds_data || [[ -n $(data_token) ]]; } && ! is_ours; then
    say "stopped; what $volume_path holds stays, as it is not this cluster's but that of $(marker_field cluster | grep . || echo "nobody known here")"
  elif [[ ${spec[delete-data]:-} == yes ]]; then
    say "deleting the data, as deleteData asks"
    rm -rf "$data_path" "$data_path".removed-* "$volume_path"/{snapshots,backups,history,restored,replaced,restoring,incoming,etcd-cluster.json} "$state_path"/{forming,formed,mounted-at}
  else
    say "stopped; the data stays in $volume_path"
  fi
  rm -f "$(figures_of_metrics)"
  rm -rf "$configuration_path"
  rm -f "$state_path/record" # last: without it, nothing here is this cluster's
}

# True if the data are this cluster's: by its token, or, for a state from before the first release, by its readable name.
is_ours() {
  if [[ -n $token ]]; then [[ $(data_token) == "$token" ]]; else [[ -n $(data_token) && $(marker_field cluster) == "$(json_text "$cluster")" ]]; fi
}

# Prints the clusters that the configuration and the unit name. Before the first release, that was the readable name.
owners() {
  local file owner
  for file in "$configuration_path/etcd.yaml" ${unit_path:+"$unit_path" "$package_unit"}; do
    owner=$(owner_of "$file")
    echo "${owner%, written by*}"
  done
}

# Prints a configuration or unit that names no cluster: etcd-cluster did not write it.
unowned_file() {
  local file
  for file in "$configuration_path/etcd.yaml" ${unit_path:+"$unit_path"}; do
    if [[ -f $file && -z $(owner_of "$file") ]]; then
      echo "$file"
      return
    fi
  done
}

# True also without an answer and for a cluster of one member: there is nothing to wait for.
follows() {
  find_sockets "$(service_pid)"
  # shellcheck disable=SC2046  # a list of ports
  ! metrics $(loopback_ports "$metrics_port") || [[ ${measured[server_is_leader]} != 1 ]]
}

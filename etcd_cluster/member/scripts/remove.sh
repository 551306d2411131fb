# shellcheck shell=bash
# shellcheck disable=SC2154
# Takes a member off its machine when it is destroyed: stopped, its programs and keys removed, its data kept unless
# that was given up by name (deleteData).
remove() {
  read_spec "$@"
  claim "${spec[run]}"
  # A leader that stops waits 7 seconds for a successor. Where all go at once there is none, but a leader that has lost
  # its quorum leads no longer, and then stops at once.
  [[ ${spec[members]} == 1 ]] || wait_until 3 follows || true
  service_stop
  if [[ $supervisor == systemd ]]; then
    systemctl disable --quiet --no-reload etcd.service 2>/dev/null || true
    rm -f "$unit_path" /etc/profile.d/etcd.sh
    systemctl daemon-reload
  fi
  rm -rf "$pki_path" "$configuration_path" "$versions_path" "$binaries_path" "$state_path/pending"
  if [[ ${spec[data]} == delete ]]; then
    say "deleting the data, as deleteData asks"
    rm -rf "$data_path" "$data_path".removed-* "$volume_path"/{snapshots,history,etcd-cluster.json} "$state_path/mounted-at"
  else
    say "stopped; the data stays in $volume_path"
  fi
}

# No answer is yes, and so is a cluster of one: there is nothing to wait for.
follows() {
  find_sockets "$(service_pid)"
  # shellcheck disable=SC2046  # a list of ports
  ! metrics $(loopback_ports "$metrics_port") || [[ ${measured[server_is_leader]} != 1 ]]
}

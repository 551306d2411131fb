# shellcheck shell=bash
# Tests one member as a client: with the exported certificate, at the exported URL. A write has to work; it leaves no key behind.
# Runs on the member's own machine, because a firewall may admit clients only. Prints the cluster's id.
# shellcheck disable=SC2154
LEASE_SECONDS=60

probe() {
  local granted='' folder
  read_spec "$@"
  require_claim
  folder=$(memory_folder)
  client_folder=$(mktemp -d "$folder/etcd-cluster-XXXXXX")
  at_exit remove_client_folder
  if [[ ${spec[tls]:-} == yes ]]; then
    put_file 400 "$(id -un)" "$client_folder/ca.crt" "$file_ca"
    put_file 400 "$(id -un)" "$client_folder/client.crt" "$file_client_certificate"
    put_file 400 "$(id -un)" "$client_folder/client.key" "$file_client_key"
    # shellcheck disable=SC2034  # for etcdctl_at
    credentials_path=$client_folder credentials=client
  fi
  wait_until "${spec[timeout-seconds]}" writes ||
    fail "no write works at ${spec[url]} after ${spec[timeout-seconds]} seconds: $(tail -n 1 < <(printf '%s\n' "$granted") | cut -c1-300)"
  sed -n 's/.*"cluster_id":\([0-9]*\).*/\1/p' < <(printf '%s\n' "$granted")
}

remove_client_folder() { rm -rf "$client_folder"; }

# Prints the first writable folder with room, those in memory first: the client's key is written there.
ROOM_KIB=64
memory_folder() {
  local folder
  for folder in /run /dev/shm /tmp; do
    if [[ -w $folder ]] && (($(df --output=avail -k "$folder" | tail -n 1) >= ROOM_KIB)); then
      echo "$folder"
      return
    fi
  done
  fail "/run, /dev/shm and /tmp have no room for $ROOM_KIB KiB, where the client's certificate is written for a moment; free some space in one of them, then run again"
}

# Grants and revokes a lease: a majority has to agree to both, every certificate may do it, and etcd refuses it while an alarm
# stands. A lease that cannot be revoked expires.
writes() {
  granted=$(etcdctl_at "${spec[url]}" lease grant "$LEASE_SECONDS" --write-out json 2>&1) &&
    [[ $granted =~ \"ID\":([0-9]+) ]] &&
    etcdctl_at "${spec[url]}" lease revoke "$(printf '%x' "${BASH_REMATCH[1]}")" >/dev/null 2>&1
}

# shellcheck shell=bash
# The whole cluster, seen as a client sees it: with the exported certificate, at every endpoint. Prints the cluster's id.
# shellcheck disable=SC2154
health() {
  read_spec "$@"
  client_folder=$(mktemp -d "$(memory_folder)/etcd-cluster-XXXXXX")
  trap 'rm -rf "$client_folder"' EXIT
  if [[ ${spec[tls]} == on ]]; then
    put_file 400 "$(id -un)" "$client_folder/ca.crt" "$file_authority"
    put_file 400 "$(id -un)" "$client_folder/client.crt" "$file_client_certificate"
    put_file 400 "$(id -un)" "$client_folder/client.key" "$file_client_key"
    # shellcheck disable=SC2034  # for etcdctl_at
    credentials_path=$client_folder credentials=client
  fi
  wait_until "${spec[timeout]}" all_healthy ||
    fail "not every endpoint is healthy after ${spec[timeout]} seconds:"$'\n'"$(etcdctl_at "$endpoints" endpoint health 2>&1 | cut -c1-300)"
  require_one_cluster
  say "all ${spec[members]} members are healthy"
}

# Keys only ever go to memory here.
memory_folder() {
  local folder
  for folder in "${XDG_RUNTIME_DIR:-}" /run /dev/shm /tmp; do
    if [[ -n $folder && -w $folder ]]; then
      echo "$folder"
      return
    fi
  done
}

all_healthy() { etcdctl_at "$endpoints" endpoint health >/dev/null 2>&1; }

require_one_cluster() {
  local ids started
  ids=$(etcdctl_at "$endpoints" endpoint status --write-out fields | awk -F ' : ' '$1 == "\"ClusterID\"" { print $2 }' | sort -u)
  [[ $(wc -l <<<"$ids") == 1 ]] || fail "the endpoints belong to different clusters: $(tr '\n' ' ' <<<"$ids")"
  started=$(etcdctl_at "$endpoints" member list | grep -c ', started, ')
  [[ $started == "${spec[members]}" ]] || fail "the cluster has $started started members, expected ${spec[members]}"
  printf '%s\n' "$ids"
}

# shellcheck shell=bash
# Acts as a client of etcd with a certificate of its own, whose files are there for the length of the step.
# shellcheck disable=SC2154

# From here on, etcdctl_at uses the certificate and key that this script was given.
act_as_client() {
  local folder
  folder=$(memory_folder)
  client_folder=$(mktemp -d "$folder/etcd-cluster-XXXXXX")
  at_exit remove_client_folder
  use_client_files "$client_folder"
}

# use_client_files FOLDER: puts certificate and key there, and makes etcdctl_at use them.
use_client_files() {
  put_file 400 "$(id -un)" "$1/ca.crt" "$file_ca"
  put_file 400 "$(id -un)" "$1/client.crt" "$file_client_certificate"
  put_file 400 "$(id -un)" "$1/client.key" "$file_client_key"
  # shellcheck disable=SC2034  # for etcdctl_at
  credentials_path=$1 credentials=client
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

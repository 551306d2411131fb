# shellcheck shell=bash
# What a member is at its next start: configuration, unit, trusted authority and version.
# shellcheck disable=SC2154
needs_restart() {
  [[ -e $state_path/pending ]] ||
    file_differs "$configuration_path/etcd.yaml" "$file_configuration" ||
    file_differs "$pki_path/ca.crt" "$file_authority" ||
    service_differs "$file_unit" ||
    [[ $(readlink "$binaries_path") != "$versions_path/$version" ]]
}

# The mark says that the process may be older than these files: whoever starts it next takes the mark away.
activate() {
  touch "$state_path/pending"
  sync "$state_path"
  put_file 640 "$owner" "$configuration_path/etcd.yaml" "$file_configuration" || true
  put_file 444 "$owner" "$pki_path/ca.crt" "$file_authority" || true
  put_service "$file_unit"
  ln -sfn "$versions_path/$version" "$binaries_path.new"
  mv -fT "$binaries_path.new" "$binaries_path"
}

# From here on, missing data is lost data.
mark_formed() {
  [[ ! -e $state_path/formed ]] || return 0
  touch "$state_path/formed"
  sync "$state_path"
}

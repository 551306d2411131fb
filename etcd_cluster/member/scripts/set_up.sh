# shellcheck shell=bash
# Sets up files and units beside etcd's own. What is there already stays.
# shellcheck disable=SC2154
# shellcheck disable=SC2034  # for the steps
UNITS_PATH=/etc/systemd/system

# place_files FOLDER: writes the files of the MODE NAME CONTENT(base64) lines that it reads, each if it differs. Returns 0 if it wrote one,
# 1 if none.
place_files() {
  local mode name content written=1
  while read -r mode name content; do
    if put_file "$mode" "$(id -un)" "$1/$name" "$content"; then written=0; fi
  done
  return "$written"
}

# differing_files FOLDER: prints a line for each of those files that differs.
differing_files() {
  local mode name content
  while read -r mode name content; do
    if file_differs "$1/$name" "$content" || [[ $(stat -c '%a %U' "$1/$name") != "$mode $(id -un)" ]]; then echo "$1/$name differs"; fi
  done
}

# private_folder PATH: makes it, for this user alone.
private_folder() {
  must mkdir -p "$1"
  must chmod 700 "$1"
}

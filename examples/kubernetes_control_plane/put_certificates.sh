# shellcheck shell=bash
# Read by `sudo bash -s` on a control plane host; the calls of `put` are appended.
set -euo pipefail
umask 077

# put MODE PATH: standard input becomes the file, at once or not at all.
put() {
  mkdir -p "${2%/*}"
  cat >"$2.new"
  chmod "$1" "$2.new"
  mv -f "$2.new" "$2"
}

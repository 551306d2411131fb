# shellcheck shell=bash
# Becomes root first. Root's shell then reads the rest of this input.
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
    printf 'error: user %s may not become root on %s: give it sudo without a password (NOPASSWD: ALL), or log in as root\n' \
      "$(id -un)" "$(uname -n)" >&2
    exit 1
  fi
  exec sudo -n bash -s -- "$@"
fi

# shellcheck shell=bash
# First on the way in: become root. The rest of this input is then read by root's shell.
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
    printf 'error: user %s may not become root on %s: give it sudo without a password (NOPASSWD: ALL), or log in as root\n' \
      "$(id -un)" "$(uname -n)" >&2
    exit 1
  fi
  exec sudo -n bash -s -- "$@"
fi

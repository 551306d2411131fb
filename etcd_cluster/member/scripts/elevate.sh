# shellcheck shell=bash
# Comes first and becomes root. Root's shell then reads the rest of this input.
if [[ $(id -u) -ne 0 ]]; then
  if ! said=$(LC_ALL=C sudo -n true 2>&1); then
    advice='Give it sudo without a password (NOPASSWD: ALL), or log in as root'
    [[ $said != *tty* ]] || advice="Add \"Defaults:$(id -un) !requiretty\" to sudoers, or log in as root"
    printf 'error: user %s may not become root on %s: %s. Expected: sudo without a password or a terminal. %s\n' \
      "$(id -un)" "$(uname -n)" "${said##*$'\n'}" "$advice" >&2
    exit 1
  fi
  # The rest of this input holds private keys.
  if LC_ALL=C sudo -n -l 2>/dev/null | grep -qE '(^|[ ,])log_input'; then
    printf 'error: sudo on %s records what it reads (log_input), and private keys would be in its log. Expected: no log_input for user %s. Add "Defaults:%s !log_input" to sudoers, or log in as root\n' \
      "$(uname -n)" "$(id -un)" "$(id -un)" >&2
    exit 1
  fi
  exec sudo -n bash -s -- "$@"
fi

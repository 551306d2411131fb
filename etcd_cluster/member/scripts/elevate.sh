# shellcheck shell=bash
# Comes first and becomes root. Root's shell then reads the rest of this input.
if [[ $(id -u) -ne 0 ]]; then
  if ! said=$(LC_ALL=C sudo -n true 2>&1 </dev/null); then
    advice='Give it sudo without a password (NOPASSWD: ALL), or log in as root'
    [[ $said != *tty* ]] || advice="Add \"Defaults:$(id -un) !requiretty\" to sudoers, or log in as root"
    printf 'error: user %s may not become root on %s: %s. Expected: sudo without a password or a terminal. %s\n' \
      "$(id -un)" "$(uname -n)" "${said##*$'\n'}" "$advice" >&2
    exit 1
  fi
  # The rest of this input holds private keys, so no sudo reads it before. sudo lists every setting that applies, and the last one
  # counts; then those of single commands; then rules, whose tag is in capitals.
  if ! said=$(LC_ALL=C sudo -n -l 2>&1 </dev/null); then
    printf 'error: sudo on %s does not list what user %s may do (sudo -l: %s), so it may record private keys. Expected: that list. Add "Defaults:%s listpw=never" to sudoers, or log in as root\n' \
      "$(uname -n)" "$(id -un)" "${said##*$'\n'}" "$(id -un)" >&2
    exit 1
  fi
  for flag in log_input log_stdin; do
    last=$(printf '%s' "${said%%$'\n\n'*}" | tr ' ,' '\n' | grep -xE "!?$flag" | tail -n 1)
    if [[ $last == "$flag" || $said =~ (^|[[:space:]])LOG_INPUT: ]] ||
      printf '%s' "$said" | grep -E '^ *Defaults(!.*(bash|ALL)|>)' | grep -qE "[ ,]$flag"; then
      printf 'error: sudo on %s records what it reads (%s), and private keys would be in its log. Expected: no %s for user %s. Add "Defaults:%s !%s" to the end of sudoers (and NOLOG_INPUT: to a rule with LOG_INPUT:), or log in as root\n' \
        "$(uname -n)" "$flag" "$flag" "$(id -un)" "$(id -un)" "$flag" >&2
      exit 1
    fi
  done
  exec sudo -n bash -s -- "$@"
fi

# shellcheck shell=bash
# Comes first on hosts, and any shell may read it: one that a login file starts (exec zsh) reads this script in place of the shell
# that was asked for, and the words of the line are lost.
if [ "$#" -eq 0 ]; then
  printf 'error: on %s, a login file of user %s starts a shell that reads this script in place of "bash -s -- STEP". Expected: a log-in that runs the command that it is given. Take that shell (exec zsh) out of .bashrc, or start it in interactive shells only, then run again\n' "$(uname -n)" "$(id -un)" >&2
  exit 1
fi

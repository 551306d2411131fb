# shellcheck shell=sh
# What the other scripts share: messages, Python and its locked dependencies, and which engine has a stack.
# They source it, then call `enter` first.
set -eu

# enter FOLDER: go to the project. Folders that the caller named stay those that it meant.
enter() {
  for name in ETCD_CLUSTER_STATE_DIR ETCD_CLUSTER_CACHE_DIR; do
    eval "given=\${$name:-}"
    # shellcheck disable=SC2154  # set by eval
    case $given in
      '' | /*) ;;
      "~"/*) export "$name=$HOME/${given#??}" ;;
      *) export "$name=$PWD/$given" ;;
    esac
  done
  cd "$1"
}

# Progress goes to standard error: the standard output of `env` is for eval.
say() { printf '%s\n' "$*" >&2; }

# fail TEXT: what is wrong, with the value, and what to do.
fail() {
  printf 'error: %s\n' "$*" >&2
  exit "${failure_code:-1}"
}

ticker='' scratch=''
clean_up() {
  [ -z "$ticker" ] || kill "$ticker" 2>/dev/null || true
  [ -z "$scratch" ] || rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# with_dots TEXT COMMAND...: a line that grows by a dot a second. What the command says is shown only if it fails.
with_dots() {
  printf '%s ' "$1" >&2
  shift
  scratch=$(mktemp -d)
  while sleep 1; do printf . >&2; done &
  ticker=$!
  if "$@" >"$scratch/log" 2>&1 </dev/null; then status=0; else status=$?; fi
  kill "$ticker"
  wait "$ticker" 2>/dev/null || true
  ticker=''
  if [ "$status" -eq 0 ]; then say ' done'; else
    say ' failed:'
    tail -n 20 "$scratch/log" >&2
  fi
  rm -rf "$scratch"
  scratch=''
  return "$status"
}

# within SECONDS COMMAND...: ends a command that takes longer, where the system can.
within() {
  if command -v timeout >/dev/null; then timeout "$@"; else
    shift
    "$@"
  fi
}

# --- Python ---

venv_python=.venv/bin/python

# require_dependencies LOCK: a .venv that holds what LOCK lists. Runs pip only when LOCK or Python changed.
require_dependencies() {
  if cmp -s "$1" ".venv/$1" && has_pulumi_sdk; then return 0; fi
  require_venv
  with_dots "Installing the dependencies of $1 into .venv" \
    "$venv_python" -m pip install --disable-pip-version-check --quiet --require-hashes --requirement "$1" ||
    fail "pip cannot install $1 (above). It needs a package index: see \`pip config list\` for mirrors and proxies"
  cp "$1" ".venv/$1"
  # The development lock holds the other one's packages too.
  [ "$1" = requirements.txt ] || cp requirements.txt .venv/requirements.txt
}

has_pulumi_sdk() { "$venv_python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pulumi") is None)' 2>/dev/null; }

require_venv() {
  if "$venv_python" -m pip --version >/dev/null 2>&1; then return 0; fi
  if [ -e .venv ] || [ -L .venv ]; then
    { [ -f .venv/pyvenv.cfg ] && [ ! -L .venv ]; } || fail "$PWD/.venv is no virtual environment: move it away, then run again"
    say 'Making .venv anew: it lacks pip, or the Python that it was made with is gone'
    rm -rf .venv
  fi
  find_python
  require_venv_module
  "$python" -m venv .venv || fail "$python -m venv .venv failed (above)"
}

# find_python: sets `python` to one that is new enough. PYTHON names another first choice.
find_python() {
  for python in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python3.10; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then return 0; fi
  done
  fail 'no Python 3.10 or later is on PATH: install python3, or name one by PYTHON=/path/to/python3'
}

# Debian and Ubuntu have what `python3 -m venv` needs in a package of its own.
require_venv_module() {
  if "$python" -c 'from ensurepip import version' 2>/dev/null; then return 0; fi
  if can_install_packages; then
    with_dots 'Installing the package python3-venv' install_packages python3-venv || true
    if "$python" -c 'from ensurepip import version' 2>/dev/null; then return 0; fi
  fi
  fail "$python cannot make virtual environments: run \`sudo apt-get install python3-venv\` (Debian, Ubuntu), then run again"
}

can_install_packages() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update && apt-get -qq -y --no-install-recommends install "$@"
}

# --- Stacks ---

# require_stack STACK: it has a file, and a name that is one.
require_stack() {
  case $1 in
    '' | [.-]* | *[!A-Za-z0-9._-]*) fail "stack \"$1\": a name has letters, digits, dots, dashes and underscores only, and begins with a letter, digit or underscore" ;;
  esac
  if [ -f "Pulumi.$1.yaml" ]; then return 0; fi
  known=$(for file in Pulumi.*.yaml; do
    file=${file#Pulumi.}
    [ ! -f "Pulumi.$file" ] || printf ' %s' "${file%.yaml}"
  done)
  fail "stack $1: there is no Pulumi.$1.yaml in $PWD. Stacks that exist:${known:- none}"
}

# find_state: sets `state`, as etcd_cluster/state_folder.py does.
find_state() {
  : "${HOME:=$("$venv_python" -c 'import os; print(os.path.expanduser("~"))')}"
  export HOME
  project=$(sed -n 's/^name: *//p' Pulumi.yaml)
  state=${ETCD_CLUSTER_STATE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/etcd-cluster}/$project
  mkdir -p "$state"
  chmod 700 "$state"
}

# owner_of STACK: `embedded` or `pulumi`, whichever has it; nothing for a stack that neither has.
owner_of() {
  if [ -s "$state/$1.json" ] && ! grep -q '"resources":\[\]' "$state/$1.json"; then
    echo embedded
  elif [ -s "$state/$1.backend" ]; then
    echo pulumi
  fi
}

# find_pulumi: sets `pulumi` to a CLI that is new enough, or to nothing, and then `without_pulumi` to the reason.
find_pulumi() {
  without_pulumi='it is not installed'
  for pulumi in "$(command -v pulumi || true)" "${PULUMI_HOME:-$HOME/.pulumi}/bin/pulumi" "$HOME/.pulumi/bin/pulumi"; do
    [ -x "$pulumi" ] || continue
    found=$(PULUMI_SKIP_UPDATE_CHECK=true "$pulumi" version 2>/dev/null </dev/null) || continue
    if new_enough "${found#v}"; then
      # Its language host and plugins are beside it.
      PATH=$(dirname "$pulumi"):$PATH
      export PATH
      return 0
    fi
    without_pulumi="Pulumi $found at $pulumi is too old (3.260 or later is needed; https://www.pulumi.com/docs/install)"
  done
  pulumi=''
}

# new_enough VERSION: 3.260 or later, as Pulumi.yaml requires.
new_enough() {
  major=${1%%.*} minor=${1#*.}
  minor=${minor%%.*}
  case $major$minor in '' | *[!0-9]*) return 1 ;; esac
  [ "$major" -gt 3 ] || { [ "$major" -eq 3 ] && [ "$minor" -ge 260 ]; }
}

# use_pulumi STACK: where the CLI keeps the stack, the passphrase of its secrets, and in `config_folder` its Pulumi.STACK.yaml.
use_pulumi() {
  if [ -z "${PULUMI_BACKEND_URL:-}" ] && [ -s "$state/$1.backend" ]; then PULUMI_BACKEND_URL=$(cat "$state/$1.backend"); fi
  if [ -z "${PULUMI_BACKEND_URL:-}" ]; then PULUMI_BACKEND_URL=$(logged_in_at); fi
  if [ -z "${PULUMI_BACKEND_URL:-}" ]; then
    PULUMI_BACKEND_URL=file://$state/pulumi
    mkdir -p "$state/pulumi"
  fi
  export PULUMI_BACKEND_URL PULUMI_SKIP_UPDATE_CHECK=true
  config_folder=.
  use_passphrase "$1"
}

logged_in_at() {
  "$pulumi" whoami --json --non-interactive 2>/dev/null </dev/null |
    "$venv_python" -c 'import json, sys; print(json.loads(sys.stdin.read() or "{}").get("url", ""))' || true
}

# use_passphrase STACK: the caller's, or the one that the embedded engine makes up and keeps as well.
use_passphrase() {
  if [ -n "${PULUMI_CONFIG_PASSPHRASE+set}" ] || [ -n "${PULUMI_CONFIG_PASSPHRASE_FILE:-}" ]; then return 0; fi
  if [ ! -f "$state/passphrase" ]; then
    # Secrets that are there already were written with another one: only the user has it.
    if grep -q '^encryptionsalt:' "Pulumi.$1.yaml"; then return 0; fi
    "$venv_python" -c '
import pathlib, sys
from embedded_engine.passphrase import passphrase
passphrase({}, pathlib.Path(sys.argv[1]), lambda text: print(text, file=sys.stderr))' "$state/passphrase"
  fi
  export PULUMI_CONFIG_PASSPHRASE_FILE="$state/passphrase"
  if ! grep -q '^encryptionsalt:' "Pulumi.$1.yaml"; then copy_config "$1"; fi
}

# copy_config STACK: almost any command of the CLI writes the salt of a passphrase into Pulumi.STACK.yaml. That of one that is known on this machine
# only goes into a copy, so that the checkout stays as it is.
copy_config() {
  config_folder=$state/config/$1
  mkdir -p "$config_folder"
  cp Pulumi.yaml "$config_folder/"
  salt=$(grep '^encryptionsalt:' "$config_folder/Pulumi.$1.yaml" 2>/dev/null || true)
  { cat "Pulumi.$1.yaml" && printf '\n%s\n' "$salt"; } >"$config_folder/new.yaml"
  mv "$config_folder/new.yaml" "$config_folder/Pulumi.$1.yaml"
}

# find_owner STACK: sets `engine` to the one that has the stack (embedded, pulumi, or nothing for neither), ready to use.
# A stack keeps its engine: the other one does not know what is there.
find_owner() {
  engine=$(owner_of "$1") pulumi='' without_pulumi='' config_folder=.
  [ "$engine" != embedded ] || return 0
  find_pulumi
  if [ -n "$pulumi" ]; then
    use_pulumi "$1"
    if [ -n "$engine" ] || pulumi_has "$1"; then engine=pulumi; fi
  elif [ -n "$engine" ]; then
    fail "stack $1 was made with the Pulumi CLI, and only the CLI has its state, but: $without_pulumi. Install it again: https://www.pulumi.com/docs/install"
  fi
}

pulumi_has() { "$pulumi" stack output --json --stack "$1" --cwd "$config_folder" --non-interactive >/dev/null 2>&1 </dev/null; }

# embedded OPERATION STACK OPTIONS...: the engine of this project, in embedded_engine.
embedded() {
  operation=$1 of=$2
  shift 2
  "$venv_python" -m embedded_engine "$operation" --stack "$of" "$@"
}

# --- The installed command ---

# ask_command COMMAND [STACK] OPTIONS...: becomes `etcd-cluster COMMAND` for a stack of this project. What it refuses
# itself ends with the command's own exit code for "no answer".
ask_command() {
  failure_code=2
  command=$1
  shift
  stack=dev
  case ${1:-} in
    '') [ "$#" -eq 0 ] || require_stack "$1" ;;
    --* | -h) ;;
    *)
      stack=$1
      shift
      ;;
  esac
  require_stack "$stack"
  require_dependencies requirements.txt
  exec "$venv_python" -m etcd_cluster.cli --stack "$stack" "$command" "$@"
}

# --- People ---

# can_ask: someone is there to answer.
can_ask() { [ -z "${CI:-}" ] && [ -t 0 ] && [ -t 2 ]; }

# confirm QUESTION
confirm() {
  printf '%s [y/N] ' "$1" >&2
  read -r answer || answer=''
  case $answer in y | Y | yes) ;; *) fail 'nothing was done' ;; esac
}

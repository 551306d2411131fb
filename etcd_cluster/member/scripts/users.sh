# shellcheck shell=bash
# Changes etcd's users and roles, turns its authentication on or off, or prints the users and roles that observe.sh may not ask for.
# Each request is safe to repeat. $requests: one request a line, the words of etcdctl in base64, "-" for an empty one. Uses the member's
# certificate, which belongs to a user of role root; with as-root=yes that of the user root, where the member's may not.
# shellcheck disable=SC2154
users() {
  local url error
  read_spec "$@"
  require_claim
  find_client_url https
  say "${spec[say]}"
  [[ ${spec[as-root]:-} != yes ]] || act_as_client
  case ${spec[change]} in
    read) read_users ;;
    set) set_users ;;
    enable) enable_authentication ;;
    disable) request auth disable ;;
  esac
}

# A member that may not ask for them knows that authentication is on.
read_users() {
  local found
  wait_until "${spec[timeout-seconds]}" users_answered || fail "etcd does not tell its users ($(last_words "$error")). Expected: an answer to the user root. Look at the member's log (journalctl -u etcd-cluster) and run again"
  printf 'on\n%s\n' "$found"
}
users_answered() { error=$(etcdctl_at "$url" user list 2>&1 >/dev/null) && found=$(users_and_roles 2>/dev/null); }

set_users() {
  local lines line word words
  mapfile -t lines < <(printf '%s\n' "$requests")
  for line in "${lines[@]}"; do
    words=()
    for word in $line; do
      # A name may end with a line break.
      word=$([[ $word == - ]] || printf '%s' "$word" | base64 -d && echo .)
      words+=("${word%.}")
    done
    ((${#words[@]} == 0)) || request "${words[@]}"
  done
}

# Tries what needs the role root before and after. The member's own certificate has to do for everything that this package does.
enable_authentication() {
  wait_until "${spec[timeout-seconds]}" may_administer || fail "a request of this member is not answered ($error). Expected: the error that its revision is in the future. Look at its log (journalctl -u etcd-cluster) and run again"
  request auth enable
  wait_until "${spec[timeout-seconds]}" may_administer && return
  error="the certificate of this member may not change the cluster ($error), although etcd has a user of its name with the role root"
  act_as_client
  request auth disable
  fail "$error. Expected: a certificate with that name. Authentication is off again; look at the member's log (journalctl -u etcd-cluster) and run again"
}

may_administer() {
  error=$(etcdctl_at "$url" endpoint hashkv --rev 9223372036854775807 2>&1) || true
  [[ $error == *"future revision"* ]] || { error=$(last_words "$error") && return 1; }
}

# request WORDS...: one request of etcdctl, until it is accepted.
request() {
  wait_until "${spec[timeout-seconds]}" accepted "$@" || fail "etcdctl $*: not accepted within ${spec[timeout-seconds]} seconds: $(last_words "$error")"
}

# The answer to an earlier attempt may be lost: a change that is done already counts as a success.
accepted() {
  error=$(etcdctl_at "$url" "$@" 2>&1 >/dev/null) && return
  case "$1 $2: $error" in
    *" add: "*"already exists"* | *" delete: "*"not found"* | *" revoke-"*"is not granted"*) ;;
    *) return 1 ;;
  esac
}

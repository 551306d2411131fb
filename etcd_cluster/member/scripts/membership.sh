# shellcheck shell=bash
# Changes the membership of the cluster, from the leader's machine. Each change is safe to repeat.
# shellcheck disable=SC2154
membership() {
  local error url
  read_spec "$@"
  require_claim
  find_client_url
  case ${spec[change]} in
    # Preconditions: no other learner; every voter healthy. After a change, etcd counts a member as unhealthy for 5 s.
    add) change=(member add "${spec[name]}" --learner --peer-urls "${spec[url]}") ;;
    # Precondition: in sync with the leader, which etcd itself checks; a large database takes a while.
    promote) change=(member promote "${spec[id]}") ;;
    # Preconditions: it does not lead; a majority of the others is healthy.
    remove) change=(member remove "${spec[id]}") ;;
    # Precondition: every other voter is healthy, so that a majority agrees to the change.
    update) change=(member update "${spec[id]}" --peer-urls "${spec[url]}") ;;
    # Precondition: the next leader is a voter, healthy and caught up.
    move-leader) change=(move-leader "${spec[id]}") ;;
    # Precondition: the cause of the alarm is gone; see planner/alarms.py.
    disarm) change=(alarm disarm) ;;
  esac
  say "${spec[say]}"
  wait_until "${spec[timeout-seconds]}" changed "$url" || fail "etcdctl ${change[*]}: not accepted within ${spec[timeout-seconds]} seconds: $(tail -n 1 < <(printf '%s\n' "$error") | cut -c1-400)"
}

# The answer to an earlier attempt may be lost: a change that is done already counts as a success.
changed() {
  error=$(etcdctl_at "$1" "${change[@]}" 2>&1 >/dev/null) || is_done "$1"
}

is_done() {
  local members
  members=$(etcdctl_at "$1" member list 2>/dev/null) || return 1
  case ${spec[change]} in
    add) listed "" "${spec[url]}" "" < <(printf '%s\n' "$members") ;;
    promote) listed "${spec[id]}" "" false < <(printf '%s\n' "$members") ;;
    remove) ! listed "${spec[id]}" "" "" < <(printf '%s\n' "$members") ;;
    update) listed "${spec[id]}" "${spec[url]}" "" < <(printf '%s\n' "$members") ;;
    disarm) false ;;
    move-leader)
      # shellcheck disable=SC2046  # a list of ports
      metrics $(loopback_ports "$metrics_port") && [[ ${measured[server_is_leader]} == 0 ]]
      ;;
  esac
}

# listed ID PEER_URLS LEARNER: true if `member list` has such a row; an empty argument matches any value.
listed() {
  id=$1 peers=$2 learner=$3 awk -F ', ' '
    function is(name, value) { return ENVIRON[name] == "" || ENVIRON[name] == value "" }
    is("id", $1) && is("peers", $4) && is("learner", $6) { found = 1 }
    END { exit !found }'
}

# shellcheck shell=bash
# Changes the membership of the cluster, asked from the leader's machine. Each call is safe to repeat.
# shellcheck disable=SC2154
membership() {
  local error url pid
  read_spec "$@"
  require_claim
  pid=$(service_pid)
  find_sockets "$pid"
  url=$(own_client_url) || fail "etcd (process ${pid:-none}) listens on no port for clients here; look at its log (journalctl -u etcd), then run again"
  case ${spec[change]} in
    # Preconditions: no other learner; every voter healthy. Right after a change etcd counts a member as unhealthy for 5 s.
    add) change=(member add "${spec[name]}" --learner --peer-urls "${spec[url]}") ;;
    # Precondition: in sync with the leader, which etcd itself judges; a large database takes a while to get there.
    promote) change=(member promote "${spec[id]}") ;;
    # Preconditions: it does not lead; a majority of the others is healthy.
    remove) change=(member remove "${spec[id]}") ;;
    # Precondition: every other voter is healthy, so that the change is agreed on.
    update) change=(member update "${spec[id]}" --peer-urls "${spec[url]}") ;;
    # Precondition: the other one is a voter, healthy and caught up.
    move-leader) change=(move-leader "${spec[id]}") ;;
    # Preconditions: what raised them is over; see planner/alarms.py.
    disarm) change=(alarm disarm) ;;
  esac
  say "${spec[say]}"
  wait_until "${spec[timeout-seconds]}" changed "$url" || fail "etcdctl ${change[*]}: not accepted within ${spec[timeout-seconds]} seconds: $(tail -n 1 <<<"$error" | cut -c1-400)"
}

# A lost answer is not a refusal: what is done already is well.
changed() {
  error=$(etcdctl_at "$1" "${change[@]}" 2>&1 >/dev/null) || is_done "$1"
}

is_done() {
  local members
  members=$(etcdctl_at "$1" member list 2>/dev/null) || return 1
  case ${spec[change]} in
    add) listed "" "${spec[url]}" "" <<<"$members" ;;
    promote) listed "${spec[id]}" "" false <<<"$members" ;;
    remove) ! listed "${spec[id]}" "" "" <<<"$members" ;;
    update) listed "${spec[id]}" "${spec[url]}" "" <<<"$members" ;;
    disarm) false ;;
    move-leader)
      # shellcheck disable=SC2046  # a list of ports
      metrics $(loopback_ports "$metrics_port") && [[ ${measured[server_is_leader]} == 0 ]]
      ;;
  esac
}

# listed ID PEER_URLS LEARNER: whether such a row is in `member list`; an empty one stands for any.
listed() {
  id=$1 peers=$2 learner=$3 awk -F ', ' '
    function is(name, value) { return ENVIRON[name] == "" || ENVIRON[name] == value "" }
    is("id", $1) && is("peers", $4) && is("learner", $6) { found = 1 }
    END { exit !found }'
}

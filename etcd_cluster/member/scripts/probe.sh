# shellcheck shell=bash
# Tests one member as a client: with the exported certificate, at the exported URL. A write has to work; it leaves no key behind.
# Runs on the member's own machine, because a firewall may admit clients only. Prints the cluster's id.
# shellcheck disable=SC2154
LEASE_SECONDS=60

probe() {
  local granted=''
  read_spec "$@"
  require_claim
  [[ ${spec[tls]:-} != yes ]] || act_as_client
  wait_until "${spec[timeout-seconds]}" writes ||
    fail "no write works at ${spec[url]} after ${spec[timeout-seconds]} seconds: $(tail -n 1 < <(printf '%s\n' "$granted") | cut -c1-300)"
  sed -n 's/.*"cluster_id":\([0-9]*\).*/\1/p' < <(printf '%s\n' "$granted")
}

# Grants and revokes a lease: a majority has to agree to both, every certificate may do it, and etcd refuses it while an alarm
# stands. A lease that cannot be revoked expires.
writes() {
  granted=$(etcdctl_at "${spec[url]}" lease grant "$LEASE_SECONDS" --write-out json 2>&1) &&
    [[ $granted =~ \"ID\":([0-9]+) ]] &&
    etcdctl_at "${spec[url]}" lease revoke "$(printf '%x' "${BASH_REMATCH[1]}")" >/dev/null 2>&1
}

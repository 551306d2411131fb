# shellcheck shell=bash
# Exposes a machine's metrics: an nginx of our own, with its certificate, and the timer that writes what etcd has no metric for. What
# is there already stays; etcd is not touched.
# shellcheck disable=SC2154
MONITORING_SERVICE=etcd-cluster-monitoring.service METRICS_TIMER=etcd-cluster-metrics.timer

# monitoring_setup [look=yes | remove=yes]: look only prints what is not as desired, a line each.
monitoring_setup() {
  read_spec "$@"
  if [[ ${spec[look]:-} == yes ]]; then
    differing
  elif [[ ${spec[remove]:-} == yes ]]; then
    remove_monitoring
  else
    set_up
  fi
}

# MODE NAME CONTENT(base64) lines. nginx opens these files as root.
monitoring_files() {
  printf '%s\n' "400 server.key $file_key" "444 server.crt $file_certificate" "444 ca.crt $file_ca" "444 nginx.conf $file_configuration" \
    "500 program $file_program"
  [[ -z $file_hook ]] || echo "500 on-failure $file_hook"
}
monitoring_units() {
  printf '%s\n' "644 $MONITORING_SERVICE $file_service" "644 etcd-cluster-metrics.service $file_metrics_service" "644 $METRICS_TIMER $file_timer"
}

set_up() {
  local is_new=no said figures
  lock
  require_port
  [[ -z $textfile_folder || -d $textfile_folder ]] || fail "monitoring.textfileFolder: $textfile_folder is no folder here. Expected: the one that node_exporter's textfile collector reads. Make it, or correct the key"
  install_nginx
  private_folder "$monitoring_path"
  figures=$(figures_of_metrics)
  [[ $figures == "$textfile_folder/etcd-cluster.prom" ]] || rm -f "$figures"
  place_files "$monitoring_path" < <(monitoring_files) || true
  [[ -n $file_hook ]] || rm -f "$hook_path"
  if place_files "$UNITS_PATH" < <(monitoring_units); then is_new=yes; fi
  # Also without a change: the step that placed these files may have been cut off there.
  must systemctl daemon-reload
  must systemctl enable --quiet "$MONITORING_SERVICE" "$METRICS_TIMER"
  if [[ $is_new == yes ]] || ! systemctl --quiet is-active "$MONITORING_SERVICE"; then
    said=$(systemctl restart "$MONITORING_SERVICE" 2>&1) || fail "$MONITORING_SERVICE does not start: $(last_words "$(journalctl --unit "$MONITORING_SERVICE" --no-pager --output cat --lines 5 2>/dev/null || echo "$said")"). Expected: nginx with $monitoring_path/nginx.conf. Fix it, then run \`pulumi up\` again"
  else
    must systemctl reload "$MONITORING_SERVICE"
  fi
  # nginx that cannot have the port goes on with the one before, and calls that no failure.
  wait_until 10 listening "$monitoring_port" || fail "port $monitoring_port is not served. Expected: nginx with $monitoring_path/nginx.conf. Look at its log (journalctl -u $MONITORING_SERVICE), then run \`pulumi up\` again"
  must systemctl restart "$METRICS_TIMER"
  must systemctl start etcd-cluster-metrics.service
  say "metrics: served at port $monitoring_port to certificates of the monitoring CA"
}

# Before anything is written: the port may be another program's.
require_port() {
  local pid program
  listening "$monitoring_port" || return 0
  pid=$(ss -Hltnp "sport = :$monitoring_port" 2>/dev/null | sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -n 1)
  ! serves_metrics "$pid" || return 0
  program=${pid:+process $pid$(describe_program "$pid")}
  fail "monitoring.port: port $monitoring_port is taken by ${program:-another program}. Expected: a free one. Stop that program, or choose another port"
}

# serves_metrics PID: whether the process is nginx of our own; one that nobody can name is, if that runs.
serves_metrics() {
  systemctl --quiet is-active "$MONITORING_SERVICE" || return 1
  [[ -z $1 ]] || grep -q "/$MONITORING_SERVICE\$" "/proc/$1/cgroup" 2>/dev/null
}

# The package's own service would serve a page of its own at port 80: it is neither started nor enabled, unless it was there before.
install_nginx() {
  [[ -n $(missing_packages) ]] || return 0
  local was_there=no
  ! command -v nginx >/dev/null || was_there=yes
  [[ $was_there == yes ]] || must systemctl mask --quiet --runtime nginx.service
  at_exit unmask_nginx
  install_packages
  unmask_nginx
  not_at_exit unmask_nginx
  [[ $was_there == yes ]] || systemctl disable --quiet nginx.service 2>/dev/null || true
}
unmask_nginx() { systemctl unmask --quiet --runtime nginx.service; }
missing_packages() {
  command -v nginx >/dev/null || echo nginx
  command -v openssl >/dev/null || echo openssl
}
proxy_url() { printf '%s' "$proxy"; }

differing() {
  local unit
  differing_files "$monitoring_path" < <(monitoring_files)
  differing_files "$UNITS_PATH" < <(monitoring_units)
  for unit in "$MONITORING_SERVICE" "$METRICS_TIMER"; do
    systemctl --quiet is-active "$unit" || echo "$unit does not run"
  done
}

remove_monitoring() {
  lock
  systemctl disable --quiet --now "$MONITORING_SERVICE" "$METRICS_TIMER" 2>/dev/null || true
  rm -f "$UNITS_PATH"/{"$MONITORING_SERVICE","$METRICS_TIMER",etcd-cluster-metrics.service}
  must systemctl daemon-reload
  rm -rf "$monitoring_path" "${metrics_path%/*}" "$state_path"/failure-of-*
  [[ -z $textfile_folder ]] || rm -f "$textfile_folder/etcd-cluster.prom"
}

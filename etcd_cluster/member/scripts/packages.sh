# shellcheck shell=bash
# Installs packages by the machine's own package manager. Another program that installs some, as a machine does by itself at
# its first boot, is waited for.
# shellcheck disable=SC2154
# Files that package managers keep open, and lock, while they work: apt and dpkg, rpm, dnf, yum. zypper notes its process in one.
PACKAGE_LOCKS=(
  /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock
  /var/lib/rpm/.rpm.lock /usr/lib/sysimage/rpm/.rpm.lock /run/dnf/rpmtransaction.lock
)
PACKAGE_PIDS='/run/zypp.pid /run/yum.pid /var/cache/dnf/*.pid /var/lib/dnf/*.pid'
# Together less than the limit of the Command that runs this step.
PACKAGES_WAIT_SECONDS=480 PACKAGES_INSTALL_SECONDS=600

install_packages() {
  local packages said deadline holder
  mapfile -t packages < <(missing_packages)
  ((${#packages[@]} > 0)) || return 0
  say "installing ${packages[*]}"
  deadline=$((SECONDS + ${package_wait_seconds:-$PACKAGES_WAIT_SECONDS}))
  while true; do
    await_package_managers "$deadline"
    ! said=$(run_package_manager "${packages[@]}" 2>&1 >/dev/null) || break
    holder=$(other_package_manager)
    [[ -n $holder ]] || fail "cannot install ${packages[*]}: $(package_manager) says: $(last_words "${said:-nothing, within $PACKAGES_INSTALL_SECONDS s}"); install them by hand, or set install.proxy, then run again"
    ((SECONDS < deadline)) ||
      fail "cannot install ${packages[*]}: $holder, and still does after ${package_wait_seconds:-$PACKAGES_WAIT_SECONDS} s; wait until it has ended, then run \`pulumi up\` again"
  done
  [[ -z $(missing_packages) ]] || fail "still missing after installation: $(missing_packages | tr '\n' ' '); install by hand, then run again"
}

package_manager() {
  local tool
  for tool in apt-get dnf yum; do
    if command -v "$tool" >/dev/null; then
      echo "$tool"
      return
    fi
  done
  echo zypper
}

run_package_manager() {
  if [[ -n $(proxy_url) ]]; then
    http_proxy=$(proxy_url) https_proxy=$(proxy_url) no_proxy=${spec[no-proxy]:-}
    export http_proxy https_proxy no_proxy
  fi
  case $(package_manager) in
    apt-get)
      DEBIAN_FRONTEND=noninteractive timeout "$PACKAGES_INSTALL_SECONDS" bash -c 'apt-get -qq update && apt-get -qq -y install "$@"' - "$@"
      ;;
    zypper) timeout "$PACKAGES_INSTALL_SECONDS" zypper --quiet --non-interactive install "$@" ;;
    *) timeout "$PACKAGES_INSTALL_SECONDS" "$(package_manager)" --quiet install -y "$@" ;;
  esac
}

# await_package_managers DEADLINE: waits until no other one works, or the deadline has passed. Says who does, each minute.
await_package_managers() {
  local holder next=0
  while ((SECONDS < $1)); do
    holder=$(other_package_manager)
    [[ -n $holder ]] || return 0
    if ((SECONDS >= next)); then
      say "waiting: $holder"
      next=$((SECONDS + 60))
    fi
    sleep 2
  done
}

# Prints which other program installs packages now, and by which file that is known; nothing if none does.
other_package_manager() {
  local file pid names=()
  for file in "${PACKAGE_LOCKS[@]}"; do names+=(-o -lname "$file"); done
  file=$(find /proc/[0-9]*/fd "${names[@]:1}" 2>/dev/null | head -n 1) || true
  if [[ -n $file ]]; then
    pid=${file#/proc/}
    pid=${pid%%/*}
    file=$(readlink "$file") || return 0 # it has just ended
  else
    for file in $PACKAGE_PIDS; do
      pid=''
      [[ ! -f $file ]] || read -r pid <"$file" || true
      [[ $pid =~ ^[1-9][0-9]*$ && -d /proc/$pid ]] && break
      pid=''
    done
    [[ -n $pid ]] || return 0
  fi
  echo "$(cat "/proc/$pid/comm" 2>/dev/null), process $pid$(describe_program "$pid"), holds $file"
}

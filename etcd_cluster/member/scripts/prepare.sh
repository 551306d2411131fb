# shellcheck shell=bash
# Prepares a machine: packages, user, folders, programs beside the running ones, data disk. A running member is not disturbed,
# and none is started. Safe to run again after an interruption at any point.
# shellcheck disable=SC2154
prepare() {
  read_spec "$@"
  lock "${lock_seconds:-1200}" # the engine, which runs this step, does not ask again
  require_own_unit
  require_clear_volume
  refuse_data_of_others
  if [[ -n $(service_pid) ]]; then lower_priority; fi
  if [[ $supervisor == systemd ]]; then
    require_own_disk
    install_packages
    keep_clock
    create_user
  fi
  make_folders
  install_version
  remove_old_versions
  if [[ -n ${spec[device]:-} ]]; then mount_device; fi
  own_data
  say ready
}

# Checks before anything is changed, also if preflight passed. Before the first release, a unit had its cluster's readable name.
require_own_unit() {
  local file owner
  [[ $supervisor == systemd ]] || return 0
  for file in "$unit_path" "$package_unit"; do
    owner=$(owner_of "$file")
    if [[ -n $owner && $owner != "$token" && $owner != "$cluster" ]] || [[ -z $owner && -f $file && $file == "$unit_path" ]]; then
      fail "$(others_unit "$file" "a unit of this cluster, token $token"); nothing was changed on this machine"
    fi
  done
  require_own_service
}
require_clear_volume() {
  local obstacle
  obstacle=$(volume_obstacle)
  [[ -z $obstacle ]] || fail "$obstacle; nothing was changed on this machine"
}

require_own_disk() {
  local device finding
  device=$(unmounted_data_disk) || return 0
  examine_disk "$device"
  end_look
  [[ -z $finding ]] || fail "$finding; nothing was changed on this machine"
}

# Lowers the priority: unpacking must not delay the writes of a member that serves.
lower_priority() {
  chrt --idle --pid 0 "$$" 2>/dev/null || renice -n 19 -p "$$" >/dev/null 2>&1 || true
  ionice -c 3 -p "$$" 2>/dev/null || true
}

# Starts chrony, unless the clock is kept already.
keep_clock() {
  local unit said
  ! clock_kept || return 0
  unit=$(systemctl list-unit-files --no-legend chrony.service chronyd.service | awk 'NR == 1 { print $1 }') || true
  unit=${unit:-chrony.service}
  said=$(systemctl enable --quiet --now "$unit" 2>&1) || true
  clock_kept || fail "nothing keeps this machine's clock, and $unit does not start: $(last_words "${said:-$(systemctl status --no-pager --lines 3 "$unit" 2>&1)}"); start a time service, then run again"
}

# A package or a hand may have made one of them. The primary group of the user does not matter: the unit names the group.
create_user() {
  local said
  getent group etcd >/dev/null || said=$(groupadd --system etcd 2>&1) || fail "cannot create group etcd: $(last_words "$said"); fix it, then run again"
  id -u etcd >/dev/null 2>&1 ||
    said=$(useradd --system --gid etcd --no-create-home --home-dir "$volume_path" --shell "$(command -v nologin || echo /bin/false)" etcd 2>&1) ||
    fail "cannot create user etcd: $(last_words "$said"); fix it, then run again"
}

make_folders() {
  must mkdir -p "$versions_path" "$state_path" "$volume_path"
  make_file_folders
  # A temporary file of an interrupted write may hold a key.
  find "$pki_path" "$configuration_path" "$state_path" -name '.new-*' -delete
  rm -rf "$versions_path"/.new-*
  require_space "$ROOM_MIB" "$configuration_path" "$state_path"
}

# Installs the binaries of a version into their own folder, which gets its name once it is complete and checked.
install_version() {
  local target=$versions_path/$version new
  if [[ -x $target/etcdctl ]] && version_is "$target/etcd" "$version"; then return 0; fi
  require_space "$PROGRAMS_MIB" "$versions_path"
  new=$(mktemp -d "$versions_path/.new-XXXXXX")
  unfinished_path=$new
  at_exit remove_unfinished
  case ${spec[install]} in
    release) download_release "$new" ;;
    local) cp "$local_binaries"/etcd* "$new/" ;;
    *) unpack "$delivered_archive" "$delivered_sha256" "$new" ;;
  esac
  chmod 755 "$new" "$new"/etcd*
  version_is "$new/etcd" "$version" ||
    fail "what was installed is $(first_line "$new/etcd"), not etcd $version; correct \`version\` or \`install\`"
  rm -rf "$target"
  mv "$new" "$target"
  sync "$versions_path"
}

remove_unfinished() { rm -rf "$unfinished_path"; }

# Removes all versions but the desired one and the running one, which an upgrade may go back to.
remove_old_versions() {
  local folder
  for folder in "$versions_path"/*; do
    [[ $folder == "$versions_path/$version" || $folder == "$(readlink "$binaries_path")" || $folder == "$(running_programs)" ]] ||
      rm -rf "$folder"
  done
}

version_is() { [[ $(first_line "$1") == "etcd Version: $2" ]]; }

# Prints the version that a program reports. Runs it without root's rights: as the user of etcd, who cannot regain them.
first_line() {
  local as=()
  [[ $supervisor != systemd ]] || as=(setpriv --reuid "$(id -u etcd)" --regid "$(id -g etcd)" --clear-groups --no-new-privs)
  # `env` would read a path with "=" in it as a variable.
  # shellcheck disable=SC2016  # for that shell to expand
  (cd / && timeout 30 "${as[@]}" env -i /bin/sh -c 'exec "$1" --version' sh "$1" </dev/null 2>&1 | head -n 1 | cut -c1-200) || true
}

download_release() {
  local name sums expected pinned
  name=etcd-v$version-linux-$(architecture).tar.gz
  say "downloading $name"
  fetch "$name" "$1/$name"
  pinned=pinned_$(architecture)
  expected=${!pinned:-}
  if [[ -z $expected ]]; then
    [[ -z ${pinned_amd64:-}${pinned_arm64:-} ]] || fail "install.sha256 has no sum for $name; add it"
    # An attacker who can change the file on its way can change its sum as well.
    [[ $(mirror_url) == https://* ]] || fail "install.mirror is over http, so $name needs a pinned sum; set install.sha256, or use https"
    sums=$1/SHA256SUMS
    fetch SHA256SUMS "$sums"
    expected=$(awk -v name="$name" '$2 == name || $2 == "*" name { print $1; exit }' "$sums")
    [[ -n $expected ]] || fail "$(shown_mirror)/v$version/SHA256SUMS does not list $name; set install.sha256, or use another install.mirror"
    rm -f "$sums"
  fi
  unpack "$1/$name" "$expected" "$1"
  rm -f "$1/$name"
}

# From the line that runs this script, or, if it is a secret, from a variable.
mirror_url() { printf '%s' "${spec[mirror]:-${mirror:-}}"; }
shown_mirror() { printf '%s' "${spec[mirror]:-install.mirror}"; }

# The proxy for downloads, likewise; empty for none. Nothing else on the machine names one to curl.
proxy_url() { printf '%s' "${spec[proxy]:-${proxy:-}}"; }

# fetch NAME FILE: downloads from the mirror. The URLs are no arguments, because all users see arguments. A download that begins
# with https is not redirected to http.
fetch() {
  local base query url protocols=https said
  base=$(mirror_url)
  query=${base#"${base%%\?*}"}
  base=${base%%\?*}
  url=$base/v$version/$1$query
  [[ $url == https://* ]] || protocols=http,https
  if ! said=$(printf 'url = "%s"\nproxy = "%s"\nnoproxy = "%s"\n' "$url" "$(proxy_url)" "${spec[no-proxy]:-}" | curl -q --config - --proto "=$protocols" --proto-redir "=$protocols" --globoff \
    --fail --silent --show-error --location --connect-timeout 10 --max-time 300 --retry 3 --output "$2" 2>&1); then
    [[ -n ${spec[mirror]:-} && -z ${proxy:-} ]] || said=''
    fail "cannot download $(shown_mirror)/v$version/$1${said:+ ($(tail -n 1 < <(printf '%s\n' "$said") | cut -c1-300))}; check install.mirror, and whether this machine reaches it (install.proxy), or use install.from: archive"
  fi
}

architecture() { case $(uname -m) in x86_64) echo amd64 ;; aarch64) echo arm64 ;; esac; }

# unpack ARCHIVE SHA256 FOLDER: checks the sum, and unpacks etcd's programs only. Writes new files: no link, owner or mode of the
# archive is kept.
unpack() {
  local actual listed top program entry said
  [[ -f $1 ]] || fail "$1 is missing on this machine; run \`pulumi up\` again, which sends it"
  actual=$(sha256sum <"$1" | cut -d ' ' -f 1)
  [[ $actual == "$2" ]] || fail "$(basename "$1") has SHA-256 $actual, expected $2; it was not installed: check install.mirror and install.sha256"
  # Decompressed once: that takes longer than all the rest.
  if ! said=$(gzip --decompress --stdout "$1" 2>&1 >"$3/.tar") ||
    ! listed=$(tar --list --verbose --numeric-owner --quoting-style=escape --file "$3/.tar" 2>/dev/null); then
    fail "$(basename "$1") is not a whole .tar.gz file${said:+ ($(last_words "$said"))}"
  fi
  top=etcd-v$version-linux-$(architecture)
  for program in etcd etcdctl etcdutl; do
    entry=$(regular_entry "$top/$program") || fail "$(basename "$1") has no file $top/$program, or one that is a link, or two; give a tarball packed like an official release"
    [[ -n $entry ]] || continue
    said=$(tar --extract --to-stdout --file "$3/.tar" -- "$entry" 2>&1 >"$3/$program") || fail "$(basename "$1"): $entry cannot be unpacked ($(last_words "$said"))"
  done
  rm -f "$3/.tar"
}

# regular_entry PATH: prints its name in `listed`, with or without "./", if it exists once and is a file. 3.4 has no etcdutl.
regular_entry() {
  local found
  found=$(printf '%s\n' "$listed" | path=$1 awk '
    { name = $6; sub(/^\.\//, "", name) }
    name == ENVIRON["path"] { count++; if ($0 !~ /^-/ || NF != 6) count = 9; entry = $6 }
    END { if (count == 1) print entry; else if (count > 1) print "?" }')
  case $found in
    '?') return 1 ;;
    '') [[ ${1##*/} == etcdutl && $version == 3.4.* ]] ;;
    *) echo "$found" ;;
  esac
}

# Makes a file system once, and on a blank device only. A mounted one stays, also if its device has another name now.
mount_device() {
  local device content what unit
  device=$(mounted_device) || device=$(data_device) || fail "device ${spec[device]} is not there; bring the disk back, or correct its name"
  content=$(device_content "$device")
  case $content in
    ours) ;;
    blank | unfinished)
      require_no_other_data_disk "$device"
      format "$device"
      ;;
    *) fail "device $device: $content; only a blank device is formatted. Give it another, or, once you are sure, wipe it (\`wipefs --all $device && dd if=/dev/zero of=$device bs=1M count=1\`)" ;;
  esac
  ! command -v udevadm >/dev/null || udevadm settle --timeout 10 2>/dev/null || true
  what=/dev/disk/by-uuid/$(blkid -p -s UUID -o value "$device")
  [[ -e $what ]] || what=$device # no udev here, so device names do not move either
  unit=$(printf '%s' "$file_mount_unit" | base64 -d)
  put_unit data-etcd.mount "$(printf '%s\n' "${unit%%@WHAT@*}$what${unit#*@WHAT@}" | base64 -w 0)"
  systemctl start data-etcd.mount || fail "cannot mount $device at $volume_path: $(systemctl status --no-pager --lines 5 data-etcd.mount 2>&1 | tail -n 5)"
  mounted_device >/dev/null || fail "$device is not mounted at $volume_path, though data-etcd.mount has started: see \`systemctl status data-etcd.mount\` and \`findmnt $volume_path\`"
  xfs_growfs "$volume_path" >/dev/null || fail "cannot grow the file system at $volume_path to the size of $device" # if that has grown
}

# Writes the mark onto the device first, so that an interrupted formatting is recognised. Formats without a discard, which would
# erase the mark: fstrim discards later.
format() {
  local uuid
  say "formatting $1 (blank) with XFS"
  uuid=$(cat /proc/sys/kernel/random/uuid)
  printf '%s\n' "$uuid" >"$state_path/formatting"
  sync "$state_path/formatting" "$state_path"
  formatting_mark "$uuid" | dd of="$1" bs="$MARK_BYTES" seek="$MARK_BLOCK" conv=sync,notrunc,fsync status=none
  mkfs.xfs -q -f -K -L "$LABEL" -m "uuid=$uuid" "$1"
  sync "$1"
  rm -f "$state_path/formatting"
  sync "$state_path" # a mark that came back after a power cut would condemn what is written from here on
}

# Disks change their names. An empty disk under the name of the data disk must not lead to a new start beside the data.
require_no_other_data_disk() {
  local other
  for other in $(blkid -c /dev/null -t "LABEL=$LABEL" -o device); do
    [[ $(readlink -f "$other") == "$1" ]] ||
      fail "device $1 is blank, and $other carries etcd's file system: if that is this member's disk, name it as the device; if not, remove its label (xfs_admin -L -- $other)"
  done
}

# Goes on without data, or with data of this cluster, by the token; else fails. A marker without data beside it does not count.
refuse_data_of_others() {
  if [[ -z $(data_token) ]]; then
    ! holds_data || is_noted_as_ours "$token" || fail "$data_path holds etcd data that this cluster did not make; move it away, or use another machine"
  elif holds_data || [[ -f $volume_path/history ]]; then
    [[ $(data_token) == "$token" ]] || fail "$volume_path holds the data of another cluster ($(marker_field cluster)), or what was noted of them (token $(data_token), this one has $token); use another disk or machine, or, if they may go, remove $data_path and $volume_path/history"
    [[ $(marker_field member) == "${spec[member]}" ]] || fail "$volume_path holds the data of member $(marker_field member); give each member its own disk back"
  fi
}

# Writes the marker, with the present readable names.
own_data() {
  refuse_data_of_others
  if put_file 644 "$(id -un)" "$volume_path/etcd-cluster.json" "$file_identity"; then sync "$volume_path"; fi
  make_data_folder
  if holds_data; then note_data; fi
  note_file_system
}

# Notes the data's file system, so that another one that is mounted over this path later is recognised. Our own data disk needs
# no note.
note_file_system() {
  local target=''
  if [[ -z ${spec[device]:-} ]]; then read -r _ target < <(file_system) || true; fi
  if [[ -z $target ]]; then
    rm -f "$state_path/mounted-at"
  else
    put_file 644 "$(id -un)" "$state_path/mounted-at" "$(printf '%s\n' "$target" | base64 -w 0)" || true
  fi
}

# shellcheck shell=bash
# Does what rclone is asked of a folder, with what every machine has: a folder needs no program to be installed.
# shellcheck disable=SC2154

# in_folder LIMIT ARGUMENTS...: the arguments that store.sh gives to rclone, with its exit codes. What is written is whole, on the
# disk, and its owner's alone, or it is absent.
in_folder() {
  local within=(timeout "$1") request=$2 path=${!#}
  shift 2
  case $request in
    lsf) list_folder "$@" ;;
    size) printf '{"bytes":%s}\n' "$("${within[@]}" stat -L -c %s "$path")" ;;
    cat) if [[ -d $path ]]; then print_all "$@"; else "${within[@]}" cat "$path"; fi ;;
    deletefile) "${within[@]}" rm -f "$path" ;;
    rcat) write_in_folder "$path" ;;
    copyto)
      path=$2
      if [[ $path == "$backup_parent"/* ]]; then write_in_folder "$path" "$1"; else "${within[@]}" cp "$1" "$path"; fi
      ;;
  esac
}

# list_folder [--recursive] [--files-only] [--include PATTERN] PATH
list_folder() {
  local depth=1 pattern='*' path=${!#}
  while (($# > 1)); do
    case $1 in
      --recursive) depth=9 ;;
      --include) pattern=$2 && shift ;;
    esac
    shift
  done
  [[ -d $path ]] || { echo "directory not found: $path" && return 3; }
  "${within[@]}" find -H "$path" -mindepth 1 -maxdepth "$depth" -name "$pattern" "${is_file[@]}" -printf '%P\n'
}

# print_all --include PATTERN --separator TEXT PATH: fails if a file cannot be read that is there.
print_all() { "${within[@]}" find -H "$5" -name "$2" "${is_file[@]}" -exec bash -c "$print_each" "$4" {} +; }
# shellcheck disable=SC2016  # that shell's own
print_each='status=0; for file; do cat "$file" || [[ ! -e $file ]] || status=1; printf "%s" "$0"; done; exit "$status"'
# A link to a file is one: what was moved to another disk is still there.
is_file=('(' -type f -o -type l -exec test -f {} ';' ')')

# write_in_folder PATH [FILE]: writes the file, or what is read, beside PATH first.
write_in_folder() {
  local new=${1%/*}/.new-${spec[member]} status=0
  (umask 077 && mkdir -p "${1%/*}" && rm -f "$new" && fill "$new" "${@:2}" && sync "$new" && mv -f "$new" "$1" && sync "${1%/*}") || status=$?
  rm -f "$new"
  return "$status"
}
# On one file system, the stored backup is the local copy, which nothing writes to again.
fill() {
  if (($# == 1)); then "${within[@]}" cat >"$1"; else ln "$2" "$1" 2>/dev/null || "${within[@]}" cp "$2" "$1"; fi
}

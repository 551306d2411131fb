# shellcheck shell=bash
# Reads etcd's users and roles with etcdctl, at $url.
# shellcheck disable=SC2154

# authentication_state: prints whether etcd's authentication is on or off, which etcd 3.4 does not report; fails without an answer. It is
# on if etcd takes a name and a password for a wrong one; else it does not look at them.
authentication_state() {
  local said
  if said=$(etcdctl_at "$url" --user etcd-cluster:- user list 2>&1); then
    echo off
  elif [[ $said == *"authentication failed"* ]]; then
    echo on
  else
    return 1
  fi
}

# users_and_roles: prints "user" or "role", a name as JSON, and what etcd has of it as JSON, with tabs between, one a line. The last
# line shows that every question was answered.
users_and_roles() { each_of user && each_of role && echo asked; }

# each_of KIND. No command can be given a name with a NUL, or that is not UTF-8, or here with U+2028 or U+2029: of such a user or role the
# name alone is told. No stack has one.
each_of() {
  local answer names name found one='^"(([^"\\]|\\.)*)",?(.*)$' unusual='(^|[^\])(\\\\)*\\u(0000|fffd|202[89])'
  answer=$(etcdctl_at "$url" "$1" list --write-out json) && [[ $answer == '{"header":'*\} ]] || return
  [[ $answer =~ \"$1s\":\[(.*)\] ]] || return 0 # etcd leaves an empty list out
  names=${BASH_REMATCH[1]}
  while [[ $names =~ $one ]]; do
    names=${BASH_REMATCH[3]} name=${BASH_REMATCH[1]} found='{}'
    [[ -n $name ]] || continue
    [[ $name =~ $unusual ]] || found=$(get "$1" "$name") || return
    printf '%s\t"%s"\t%s\n' "$1" "$name" "$found"
  done
  [[ -z $names ]]
}

# get KIND NAME(as JSON, without its quotes)
get() {
  local name
  printf -v name '%b' "${2//\\\"/\"}" # but for that of the quote, JSON's escapes are those of printf
  etcdctl_at "$url" "$1" get --write-out json -- "$name" </dev/null
}

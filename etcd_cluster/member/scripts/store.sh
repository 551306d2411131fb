# shellcheck shell=bash
# Carries files to and from the store of backups, with rclone, and explains what it says.
# shellcheck disable=SC2154
STORE_SECONDS=18000 # limit for the transport of one file, within that of a run: 8 GiB at half a megabyte a second
REQUEST_SECONDS=120 # limit for any other request: a store that hangs answers none
TRIAL_SECONDS=60    # limit for that where people wait: store_trial=yes
# shellcheck disable=SC2034  # the status of timeout(1), for the steps
TIMED_OUT=124

# rclone ARGUMENTS...: its credentials are in a file that only root can read. --timeout is a limit for silence. --low-level-retries counts
# more than once, in rclone's copy, in its requests and in the library for that store, so a whole file is sent twice as it is: of a store
# that hangs, the data of a file are given up after two minutes of silence. What is sent in parts, above 200 MB, has each part tried four
# times, and what opens and removes them: twelve minutes. A slow store that takes bytes is never given up, but for the limit.
rclone() {
  local trusted=() limit=$REQUEST_SECONDS silence=60s attempts=2
  [[ -z ${store_trial:-} ]] || limit=$TRIAL_SECONDS silence=12s attempts=1
  [[ $1 != copyto ]] || limit=$STORE_SECONDS attempts=1
  if [[ $backup_parent == /* ]]; then
    in_folder "$limit" "$@"
    return
  fi
  [[ ! -f ${rclone_configuration%/*}/ca.crt ]] || trusted=(--ca-cert "${rclone_configuration%/*}/ca.crt")
  timeout "$limit" "$rclone_program" --config "$rclone_configuration" "${trusted[@]}" --log-level ERROR --stats 0 \
    --contimeout 15s --timeout "$silence" --retries "$attempts" --low-level-retries 2 --s3-no-check-bucket --azureblob-no-check-container "$@"
}

# store_files: prints MODE NAME CONTENT(base64) lines of rclone's configuration, of which the first one holds credentials.
store_files() {
  echo "400 rclone.conf $file_configuration"
  [[ -z $file_store_ca ]] || echo "444 ca.crt $file_store_ca"
  [[ -z $file_known_hosts ]] || echo "444 known_hosts $file_known_hosts"
}

require_rclone_runs() {
  [[ -z $rclone_placed || $("$rclone_placed" version 2>/dev/null) == rclone* ]] || fail "$rclone_placed does not run here. Expected: rclone for this machine. Set backup.rclone to a program that runs here"
}

# to_store ARGUMENTS...: runs rclone; if it fails, the step fails with the reason.
to_store() {
  local said
  said=$(rclone "$@" 2>&1) || {
    [[ -z ${if_undecrypted:-} ]] || ! is_other_encryption "$said" || unfit "$if_undecrypted"
    # To a path on this machine, and not to the store.
    [[ $1 != copyto || $3 != /* || $3 == "$backup_parent"/* || $said != *"o space left"* ]] || fail "this machine has no room for what is in the store. Expected: more free space in ${3%/*}. Free some space"
    fail "$(store_problem "$said")"
  }
}

# store_problem TEXT: explains what rclone said. The error codes are those of S3, Google Cloud Storage and Azure.
store_problem() {
  local problem
  case $1 in
    *"bad password"* | *"bad magic"* | *"too short to be encrypted"*) problem="its content is not encrypted with that password. Expected: the password that it was encrypted with. Correct backup.encryptionPassword, or set another prefix in backup.to" ;;
    *NoSuchBucket* | *"bucket does not exist"* | *ContainerNotFound* | *"googleapi: Error 404"*) problem="there is no such bucket. Expected: one that exists. Make it, or correct backup.to" ;;
    # All that rclone says of an error 404 when it lists.
    *"directory not found"*) problem="there is no such bucket or folder, or the store does not know the access key. Expected: one that exists, and credentials for it. Correct backup.to, or backup.accessKey" ;;
    *SignatureDoesNotMatch*) problem="the store refuses the secret key. Expected: the secret of that access key. Correct backup.secretKey" ;;
    *InvalidAccessKeyId* | *AuthenticationFailed*) problem="the store does not know the access key. Expected: one that is valid. Correct backup.accessKey" ;;
    *ExpiredToken* | *InvalidToken* | *TokenRefreshRequired* | *RequestExpired*) problem="the credentials have expired. Expected: valid ones. Renew them" ;;
    *RequestTimeTooSkewed*) problem="this machine's clock is too far from the store's. Expected: a few minutes at most. Set the clock (chronyc tracking, timedatectl)" ;;
    *NoCredentialProviders* | *"no EC2 IMDS role found"* | *"could not find default credentials"*) problem="there are no credentials. Expected: a role of this machine, or keys. Give the machine a role, or set backup.accessKey and backup.secretKey" ;;
    *AccessDenied* | *Forbidden* | *"Error 403"* | *AuthorizationPermissionMismatch*) problem="the credentials may not do that. Expected: the rights to list, read and write below that prefix (docs/backup.md). Grant them" ;;
    *"ermission denied"* | *"ead-only file system"*) problem="that folder may not be read or written. Expected: one whose files this user may read and write; root on machines, which an NFS export with root_squash refuses. Change its rights" ;;
    *"ot a directory"*) problem="its path leads through a file. Expected: a folder. Move that file away, or correct backup.to" ;;
    *InsufficientStorage* | *QuotaExceeded* | *"o space left"* | *"quota exceeded"* | *"StatusCode: 507"*) problem="the store is full. Expected: room for a snapshot. Free some space there, or keep fewer backups (backup.keep)" ;;
    *"no such host"* | *"connection refused"* | *"i/o timeout"* | *"no route to host"* | *"etwork is unreachable"* | *"deadline exceeded"* | *"connection reset"* | *"connection timed out"* | *"broken pipe"* | *"use of closed network connection"* | *": EOF"* | *"unexpected EOF"* | *"handshake timeout"* | *"timeout awaiting response headers"*) problem="the store does not answer. Expected: a store that this machine reaches. Check backup.endpoint, the network and the firewall" ;;
    *"certificate signed by unknown authority"* | *x509*) problem="the store's certificate is not trusted. Expected: one of a known CA. Set backup.ca" ;;
    '') problem="it did not end in time. Expected: a store that answers. Check it, and the network" ;;
    *) problem="it failed. Expected: a store that takes the backup. Fix the cause" ;;
  esac
  echo "backup to $backup_shown: $problem${1:+ ($(last_words "${1##*api error }"))}"
}

is_other_encryption() { [[ $1 == *"bad password"* || $1 == *"bad magic"* || $1 == *"too short to be encrypted"* ]]; }

# time_of SECONDS: prints a time as the names of backups begin with it.
time_of() { date -u -d "@$1" +%Y%m%dT%H%M%SZ; }

# names: prints the names in the cluster's folder.
names() {
  local said status=0
  said=$(rclone lsf --files-only "$backup_store" 2>&1) || status=$?
  case $status in
    0) printf '%s\n' "$said" ;;
    3) ;; # a folder that does not exist has no backups yet
    *) fail "$(store_problem "$said")" ;;
  esac
}

# A folder of this machine alone would be lost with it. One that is no longer mounted is that of the machine.
require_folder() {
  local folder=$backup_root
  [[ $supervisor == systemd ]] || return 0
  [[ -d $folder ]] || fail "backup.to: $folder is no folder here. Expected: a network file system that is mounted on every member's machine. Mount it, or use another store"
  [[ $(stat -c %d "$folder") != "$(stat -c %d /)" && $(stat -c %d "$folder") != "$(stat -c %d "$volume_path")" ]] ||
    fail "backup.to: $folder is on this machine's own disk, and is lost with it. Expected: a network file system that is mounted there. Mount it, or use another store"
}

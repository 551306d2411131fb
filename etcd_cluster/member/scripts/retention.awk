# Decides what a store no longer needs. Reads the names in the folder of one cluster; prints those to delete, in that order: what is
# cut off half-way leaves data without a manifest, which the next run deletes. Ages count from the newest backup.
# A backup is what has a manifest. Kept are the newest `last`, the newest of each of the newest `daily` days and `weekly` weeks, the
# newest of all, the newest that passed a restore, and what is marked to be kept. Names that do not parse are never printed.
# made: the time of the run that asks; "" for that of the newest backup. What is dated after it, by a clock that was ahead, stays, but
# takes no place of others: else a run would delete what it has made itself.
# member: the member that asks; "" for one that is not known. What other members made stays if all of it is dated more than a day
# before the run: this member's clock may be ahead, and all of it be new.
# unproven: names of backups that prove nothing, though they passed: members differed when they were made.
# With explain=1 it prints instead why the others stay: NAME REASON,... lines.
function days_of(slot,   year, month, day) {
  year = substr(slot, 1, 4) + 0
  month = substr(slot, 5, 2) + 0
  day = substr(slot, 7, 2) + 0
  if (month <= 2) {
    year--
    month += 12
  }
  return 365 * year + int(year / 4) - int(year / 100) + int(year / 400) + int((153 * month - 457) / 5) + day
}
function minutes_of(slot) { return days_of(slot) * 1440 + substr(slot, 10, 2) * 60 + substr(slot, 12, 2) }
function maker_of(name,   found) {
  found = name
  sub(/^[^-]*-[^-]*-/, "", found)
  return found
}
function is_anothers(name) { return made != "" && member != "" && maker_of(name) != member }
function is_unproven(name) { return index(" " unproven " ", " " name " ") > 0 }
function exists(name, kind) { return (name "." kind) in present }
/^[0-9][0-9][0-9][0-9][0-1][0-9][0-3][0-9]T[0-2][0-9][0-5][0-9][0-5][0-9]Z-[0-9]+-[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.(db|json|tested|failed|keep|begun)$/ {
  name = kind = $0
  sub(/\.[a-z]+$/, "", name)
  sub(/^.*\./, "", kind)
  present[$0]
  if (kind == "json") backups[++count] = name
  else if (kind == "db" || kind == "begun") others[++rest] = name "." kind
}
END {
  if (count == 0) exit
  # The newest first; of the same slot, the higher revision.
  for (place = 2; place <= count; place++) {
    name = backups[place]
    for (before = place - 1; before >= 1 && older(backups[before], name); before--) backups[before + 1] = backups[before]
    backups[before + 1] = name
  }
  for (place = 1; place <= count && newest_of_others == ""; place++)
    if (is_anothers(backups[place]) && substr(backups[place], 1, 16) <= made) newest_of_others = backups[place]
  spares = newest_of_others != "" && minutes_of(made) - minutes_of(newest_of_others) > 1440
  for (place = 1; place <= count; place++) {
    name = backups[place]
    if (made != "" && substr(name, 1, 16) > made) {
      if (explain) print name, "ahead"
      continue
    }
    day = days_of(name)
    week = int((day + 1) / 7)
    counted++
    keep = counted == 1 || counted <= last ? ",last" : ""
    if (exists(name, "keep")) keep = keep ",marked"
    if (day != newest_day && days < daily) {
      days++
      keep = keep ",daily"
    }
    if (week != newest_week && weeks < weekly) {
      weeks++
      keep = keep ",weekly"
    }
    newest_day = day
    newest_week = week
    if (!proven && exists(name, "db") && exists(name, "tested") && !exists(name, "failed") && !is_unproven(name)) {
      proven = 1
      keep = keep ",tested"
    }
    if (spares && is_anothers(name)) keep = keep ",others"
    if (explain && keep != "") print name, substr(keep, 2)
    if (explain || keep != "") continue
    print name ".json"
    if (exists(name, "tested")) print name ".tested"
    if (exists(name, "failed")) print name ".failed"
    if (exists(name, "db")) print name ".db"
  }
  if (explain) exit
  # Data without a manifest, a day before the newest backup: their upload was cut off.
  until = made != "" && made < substr(backups[1], 1, 16) ? made : backups[1]
  for (place = 1; place <= rest; place++) {
    name = others[place]
    kind = name
    sub(/\.[a-z]+$/, "", name)
    if (kind ~ /\.db$/ && exists(name, "json")) continue
    if (spares && is_anothers(name)) continue
    if (minutes_of(until) - minutes_of(name) >= 1440) print kind
  }
}
function older(one, other,   revision, other_revision) {
  if (substr(one, 1, 16) != substr(other, 1, 16)) return substr(one, 1, 16) < substr(other, 1, 16)
  split(one, revision, "-")
  split(other, other_revision, "-")
  return revision[2] + 0 < other_revision[2] + 0
}

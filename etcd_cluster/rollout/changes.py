"""Checks a change of the stack for a running cluster, and describes its steps. Pure.

It works in a preview, where values may be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from etcd_cluster.backup.restore_arguments import LATEST
from etcd_cluster.dns import ALL
from etcd_cluster.etcd.versions import change_warnings, unsupported_change
from etcd_cluster.rollout.desired import series
from etcd_cluster.rollout.planner.actions import Details, Refusal
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.users import CLIENT

Inputs = Mapping[str, Any]

CA_FINGERPRINTS = ("ca_fingerprints", "peer_ca_fingerprints")
"""Inputs with the CAs that members trust for clients, and for other members."""

NOTHING_RESTARTS = "no member is restarted: what differs (certificates, how hosts are reached) is put in place as it is"


def refusals(olds: Inputs, news: Inputs) -> list[RefusedError]:
    """Returns the reasons to refuse a change. A value that is unknown yet passes."""
    found: list[RefusedError] = []
    old, new = set(olds["members"]), set(news["members"])
    if not old & new:
        found.append(RefusedError(Refusal.NO_MEMBER_STAYS, {"old": sorted(old), "new": sorted(new)}))
    if olds["tls"] and not news["tls"] and not news.get("allow_plaintext"):
        found.append(RefusedError(Refusal.TLS_TURNED_OFF))
    moved = [name for name in old & new if _is_another(olds["members"][name], news["members"][name])]
    if (moved or new - old) and olds["tls"]:
        members = {"members": sorted([*moved, *(new - old)])}
        if not news["tls"]:
            found.append(RefusedError(Refusal.TLS_TURNED_OFF_AND_MEMBERS_CHANGED, members))
        elif _is_another_ca(olds, news):
            found.append(RefusedError(Refusal.CA_REPLACED_AND_MEMBERS_CHANGED, members))
    if news.get("restore_from") and news["restore_from"] != olds.get("restore_from"):
        found.append(RefusedError(Refusal.RESTORE_OF_RUNNING_CLUSTER, {"backup": news["restore_from"]}))
    if restores(olds, news):
        found += _while_restoring(olds, news, moved)
    found += [*_with_users(olds, news), *_named_as_members(olds, news)]
    unsupported = unsupported_change(olds["version"], news["version"])
    return [*found, *_misplaced(olds, news), *([RefusedError(*unsupported)] if unsupported else [])]


def first_refusals(news: Inputs) -> list[RefusedError]:
    """Returns the reasons to refuse an `up` that forms a cluster."""
    restoration = news.get("restoration")
    return [RefusedError(Refusal.RESTORE_OF_NEW_CLUSTER, {"key": restoration["key"]})] if restoration else []


def given_up(olds: Inputs, news: Inputs) -> list[str] | None:
    """Returns the ids of the clusters whose data restores took, or take, the place of; None for none."""
    before: Sequence[str] = olds.get("given_up") or ()
    now = [news["restoration"]["cluster"]] if news.get("restoration") else []
    return [*dict.fromkeys([*before, *now])] or None


def keys_of_latest(news: Inputs) -> frozenset[str]:
    """Returns the keys of stack config that say `latest` in place of a backup's name."""
    asked: Mapping[str, Any] = news.get("restoration") or {}
    said = {"restoreFrom": news.get("restore_from"), f"{asked.get('key')}.from": asked.get("from")}
    return frozenset(key for key, value in said.items() if value == LATEST)


def restores(olds: Inputs, news: Inputs) -> bool:
    """Returns whether a restore in the place of the cluster's data is asked for that no `up` has done to its end."""
    return bool(news.get("restoration")) and news["restoration"] != olds.get("restoration")


def _while_restoring(olds: Inputs, news: Inputs, moved: Sequence[str]) -> list[RefusedError]:
    """Returns refusals for a restore in the place of the cluster's data.

    A member that leaves, or whose machine changes, may go on, there, with the data that are given up. After a lost
    quorum nothing of that can be done before. So each former machine is asked then, and counts as one that serves
    unless `lost` names its member; and the version may become the one that the data are of: see data_version.py.
    """
    found: list[RefusedError] = []
    asked: Mapping[str, Any] = news["restoration"]
    in_place = asked["key"] != "recover"
    names = ("version", "tls", "size", "etcd") if in_place else ("tls", "size", "etcd")
    changed = [name for name in names if _is_another(olds.get(name) or None, news.get(name) or None)]
    if in_place and olds["members"].keys() != news["members"].keys():
        changed.append(f"the list of members (it was {', '.join(olds['members'])})")
    if in_place:
        changed += [f"the machine of {name}" for name in sorted(moved)]
    if changed:
        found.append(RefusedError(Refusal.RESTORE_WITH_OTHER_CHANGES, {"key": asked["key"], "changed": changed}))
    before: Mapping[str, Any] = olds.get("restoration") or {}
    is_same = (before.get("cluster"), before.get("from")) == (asked["cluster"], asked["from"])
    if asked["cluster"] in (*(olds.get("given_up") or ()), before.get("cluster")) and not is_same:
        found.append(RefusedError(Refusal.RESTORE_DONE, asked))
    return found


def _with_users(olds: Inputs, news: Inputs) -> list[RefusedError]:
    """Returns refusals for what must not change together with etcd's users and roles."""
    if not _users_differ(olds, news):
        return []
    found: list[RefusedError] = []
    if series(olds["version"]) != series(news["version"]):
        details = {"old": olds["version"], "new": news["version"]}
        found.append(RefusedError(Refusal.USERS_AND_VERSION_CHANGED, details))
    if olds["tls"] != news["tls"]:
        found.append(RefusedError(Refusal.USERS_AND_TLS_CHANGED))
    elif _differ(olds.get("ca_fingerprints"), news.get("ca_fingerprints")):
        found.append(RefusedError(Refusal.USERS_AND_CA_CHANGED))
    return found


def _named_as_members(olds: Inputs, news: Inputs) -> list[RefusedError]:
    """Returns the refusal for a user that has the name of a leaving member, and for a member with that of a user."""
    users: list[set[str]] = [{*(each.get("users") or {})} for each in (olds, news)]
    members: list[set[str]] = [{*each["members"]} for each in (olds, news)]
    names = (users[1] & (members[0] - members[1])) | (users[0] & (members[1] - members[0]))
    return [RefusedError(Refusal.USER_NAMED_AS_MEMBER, {"names": sorted(names)})] if names else []


def _users_differ(olds: Inputs, news: Inputs) -> bool:
    return any(_plain(olds.get(which)) != _plain(news.get(which)) for which in ("users", "roles"))


def _plain(value: Any) -> str:
    """Returns a value as one text: a state of an earlier release lacks it, and a program may give other types."""
    return json.dumps(value or {}, sort_keys=True, default=list)


Place = Mapping[str, Any]

MOVE = "docs/move-data-to-a-device.md"
SYSTEM_PATHS = "the system's own directories"


def _misplaced(olds: Inputs, news: Inputs) -> list[RefusedError]:
    """Returns refusals for data that would be left behind or mounted over, and for ports that another member has."""
    before, after = places(olds), places(news)
    staying = sorted(before.keys() & after.keys())
    found: list[RefusedError] = []
    moving = [name for name in staying if _gains_or_loses_a_device(before[name], after[name])]
    if len(moving) > 1:
        found.append(RefusedError(Refusal.SEVERAL_DEVICES_CHANGED, {"members": moving}))
    elsewhere = [name for name in staying if _differ(before[name].get("directory"), after[name].get("directory"))]
    if elsewhere:
        old, new = (str(each[elsewhere[0]].get("directory") or "") for each in (before, after))
        found.append(_directory_changed(elsewhere, old, new))
    return [*found, *_taken_ports(olds, news, before, after)]


def _directory_changed(members: Sequence[str], old: str, new: str) -> RefusedError:
    """Returns the refusal of another DIRECTORY/CLUSTER/MEMBER, whose parts tell what was renamed.

    The default DIRECTORY contains the names of project and stack.
    """
    details: Details = {"members": members, "old": old or SYSTEM_PATHS, "new": new or SYSTEM_PATHS}
    parts, other_parts = PurePath(old).parts, PurePath(new).parts
    if min(len(parts), len(other_parts)) < 4 or parts[-1] != other_parts[-1]:
        return RefusedError(Refusal.DIRECTORY_CHANGED, details)
    cluster, renamed = parts[-2], other_parts[-2]
    if cluster != renamed:
        details = {**details, "cluster": cluster, "renamed": renamed}
        return RefusedError(Refusal.DIRECTORY_CHANGED_WITH_CLUSTER, details)
    details = {**details, "directory": PurePath(old).parents[1]}
    return RefusedError(Refusal.DIRECTORY_CHANGED_WITH_STACK, details)


def places(inputs: Inputs) -> Mapping[str, Place]:
    """Returns member name -> device, directory and ports.

    A state of an earlier release, which has no `places`, has them in `desired`.
    """
    shown: Mapping[str, Place] | None = inputs.get("places")
    if shown is not None or not isinstance(inputs.get("desired"), str) or not _known(inputs["desired"]):
        return shown if shown is not None and _known(shown) else {}
    return {name: _place(member) for name, member in json.loads(inputs["desired"])["members"].items()}


def _place(member: Mapping[str, Any]) -> Place:
    layout, ports = member.get("layout", {}), member.get("ports", {})
    directory = layout["binaries"].removesuffix("/bin") if layout.get("supervisor") == "process" else None
    return {
        **({"device": member["device"]} if member.get("device") else {}),
        **({"directory": directory} if directory else {}),
        "ports": ",".join(f"{ports.get(name, 0):.0f}" for name in ("client", "peer", "metrics")),
    }


def _gains_or_loses_a_device(old: Place, new: Place) -> bool:
    return bool(old.get("device")) != bool(new.get("device"))


def _differ(old: object, new: object) -> bool:
    return _known(old) and _known(new) and (old or None) != (new or None)


def _taken_ports(
    olds: Inputs, news: Inputs, before: Mapping[str, Place], after: Mapping[str, Place]
) -> list[RefusedError]:
    """Returns a refusal if a member's new port is still another member's on the same machine.

    Members take new ports one after the other, while the others still have their old ones.
    """
    found: list[RefusedError] = []
    for name in sorted(after):
        if name not in before or not _differ(before[name].get("ports"), after[name].get("ports")):
            continue
        for other in sorted(before.keys() - {name}):
            address, others = news["members"].get(name), olds["members"].get(other)
            taken = set(_ports(after[name])) & set(_ports(before[other]))
            if taken and _known(address) and address == others:
                details = {"member": name, "ports": sorted(taken), "address": address, "other": other}
                found.append(RefusedError(Refusal.PORT_OF_ANOTHER_MEMBER, details))
    return found[:1]


def _ports(place: Place) -> Sequence[str]:
    ports = place.get("ports")
    return ports.split(",") if isinstance(ports, str) and _known(ports) else ()


def _is_another(old: object, new: object) -> bool:
    return _known(old) and _known(new) and old != new


def _is_another_ca(olds: Inputs, news: Inputs) -> bool:
    """Returns whether a CA is replaced at once, without a time in which both are trusted."""
    pairs = [(olds.get(which), news.get(which)) for which in CA_FINGERPRINTS]
    known = [(before, after) for before, after in pairs if before and after and _known(before) and _known(after)]
    return any(not set(before) & set(after) for before, after in known)


def steps(olds: Inputs, news: Inputs) -> list[str]:
    """Returns what an `up` will do to a running cluster, one sentence a step, in order; empty if nothing restarts."""
    old, new = olds["members"], news["members"]
    staying = sorted(old.keys() & new.keys())
    return [
        *_restoration(olds, news),
        *_membership(old, new),
        *_addresses(old, new),
        *_moves(places(olds), places(news)),
        *_tls(olds, news),
        *_peer_ca(olds, news),
        *_trust(olds, news),
        *_version(olds, news, staying),
        *_settings(olds, news, staying),
        *_users(olds, news),
        *_defragmentation(olds, news),
    ]


def steps_of_the_rest(olds: Inputs, news: Inputs) -> list[str]:
    """Returns the steps of a change that shows in no other input.

    Such a change is one of ports, or of what this package makes of the same settings.
    """
    if not _known(news["desired"]):
        return [NOTHING_RESTARTS]  # certificates that are about to be made
    before, after = json.loads(olds["desired"]), json.loads(news["desired"])
    staying = before["members"].keys() & after["members"].keys()
    changed = [name for name in staying if _started_from(before, name) != _started_from(after, name)]
    restarts = f"{_names(changed)}: restarted, one at a time, followers first, the leader last"
    return [restarts if changed else NOTHING_RESTARTS]


def _started_from(desired: Mapping[str, Any], name: str) -> list[Any]:
    member = desired["members"][name]
    return [desired.get("options"), *(member.get(key) for key in ("ports", "layout")), bool(member.get("device"))]


def dropped_names(olds: Inputs, news: Inputs) -> list[str]:
    """Returns what becomes of clients that use a name which certificates do not hold any more."""
    before: Mapping[str, str] = olds.get("names") or {}
    after: Mapping[str, str] = news.get("names") or {}
    staying = {ALL, *news["members"]}
    dropped = [name for name, member in before.items() if name not in after and member in staying]
    if not dropped or not (olds["tls"] and news["tls"]):
        return []
    return [
        f"{_names(dropped)}: taken out of members' certificates: clients that use these names fail when they next "
        "connect (dns.otherNames keeps a name of the cluster, and those below it)"
    ]


def first_steps(news: Inputs) -> list[str]:
    """Returns the steps of an `up` that forms a cluster."""
    return [*_forming(news), *_users({}, news)]


def _forming(news: Inputs) -> list[str]:
    if news.get("restore_from"):
        first, *others = sorted(news["members"])
        return [
            f"{first} starts with backup {news['restore_from']} of etcd's data, once its restore is proven",
            *(f"{name} joins as a learner, gets all data, and is promoted" for name in others),
        ]
    return [f"a new cluster of etcd {news['version']} is formed: {_names(news['members'])}"]


def _restoration(olds: Inputs, news: Inputs) -> list[str]:
    """Returns the steps of a restore in the place of a cluster's data. What is given up comes first."""
    if not restores(olds, news):
        return []
    asked: Mapping[str, Any] = news["restoration"]
    cluster, source, lost = asked["cluster"], asked.get("from") or "", list(asked.get("lost") or ())
    names = sorted(news["members"])
    of_a_member = asked["key"] == "recover" and source in ("", *names)
    if of_a_member:
        first = source or "the member that is left and has the highest revision,"
        given_up = (
            f"the data of all others: {_names(name for name in names if name != source)}"
            if source
            else ("the data of all others")
        )
        begin = [f"{first} is asked for a snapshot of its data, running alone; the restore of that is tested there"]
    else:
        given_up = f"every write since {source} was made"
        begin = [
            f"a restore of {source} is tested beside the data of a follower; if that fails, nothing is stopped",
            "what is there is backed up, if a member answers",
        ]
    return [
        f"GIVEN UP: the data of cluster {cluster}, if that is this cluster's id: {given_up}",
        *(
            [f"GIVEN UP: whatever {_names(lost)} holds, which gives no answer and may not come back unwiped"]
            if lost
            else []
        ),
        *begin,
        "all members stop; their data are renamed (data.removed-TIME), and none are deleted",
        "one member starts with the restored data, as a new cluster that no member of the old one can join; revisions "
        "are raised, so that watches start anew",
        "the others join it as learners, get all data, and are promoted",
    ]


def _membership(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    leaving, coming = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    return [
        *(
            f"{name} leaves the cluster (leadership moves away first), and is stopped; its data stays"
            for name in leaving
        ),
        *(f"{name} joins as a learner, gets all data, and is promoted" for name in coming),
    ]


def _addresses(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        # Without the addresses, which may be secrets.
        f"{name} moves to another address: its peer URL is updated in the cluster first, then it is restarted"
        for name in sorted(new)
        if name in old and old[name] != new[name]
    ]


def _moves(before: Mapping[str, Place], after: Mapping[str, Place]) -> list[str]:
    """Returns the steps that move data and ports."""
    steps: list[str] = []
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if _gains_or_loses_a_device(old, new):
            # Without its path, which may be a secret.
            where = "to its device" if new.get("device") else "off its device"
            steps.append(
                f"{name}: its data move {where}: it joins anew as a learner, once its old data were moved away there "
                f"by hand ({MOVE}); before that, nothing is done"
            )
        if _differ(old.get("ports"), new.get("ports")):
            steps.append(
                f"{name} moves from ports {old['ports']} to {new['ports']}: its peer URL is updated in the "
                "cluster first, then it is restarted, one at a time; clients change their endpoints"
            )
    return steps


def _tls(olds: Inputs, news: Inputs) -> list[str]:
    if olds["tls"] == news["tls"]:
        return []
    steps = [
        "every member gets certificates, and is restarted once (one at a time)",
        "every member moves to TLS towards the others: its peer URL is changed in the cluster, then it is restarted "
        "(one at a time)",
        "every member moves to TLS towards clients, and is restarted (one at a time): clients change their endpoints "
        "to https now",
    ]
    if olds["tls"]:
        steps = [
            "every member leaves TLS towards clients, and is restarted (one at a time): clients change their endpoints "
            "to http now",
            "every member leaves TLS towards the others: its peer URL is changed in the cluster, then it is restarted "
            "(one at a time)",
            "every member is restarted without certificates (one at a time)",
        ]
    return steps


def _peer_ca(olds: Inputs, news: Inputs) -> list[str]:
    """Returns the steps that give the peer port its own CA.

    In a cluster of an earlier release, members let each other in by the CA of clients, too.
    """
    if not (olds["tls"] and news["tls"]) or olds.get("peer_ca_fingerprints") or not news.get("peer_ca_fingerprints"):
        return []
    return [
        "the peer port gets a CA of its own, so that only members are let in there: every member trusts it beside the "
        "CA that clients have, and is restarted (one at a time)",
        "every member shows the others a certificate by the new peer CA, without a restart",
        "every member trusts the peer CA alone on the peer port, and is restarted (one at a time)",
    ]


def _trust(olds: Inputs, news: Inputs) -> list[str]:
    if not (olds["tls"] and news["tls"]):
        return []
    pairs = [(olds.get(which), news.get(which)) for which in CA_FINGERPRINTS]
    pairs = [(before, after) for before, after in pairs if before and after and before != after]
    if any(not (_known(before) and _known(after)) for before, after in pairs):
        return [
            "where the CA changes, every member comes to trust the new one before the old one is dropped, "
            "and is restarted for each of these steps that is due (one at a time)"
        ]
    added = [each for before, after in pairs for each in after or () if each not in (before or ())]
    dropped = [each for before, after in pairs for each in before or () if each not in (after or ())]
    steps: list[str] = []
    if added:
        steps.append("every member trusts the new CA as well as the old one, and is restarted (one at a time)")
    if dropped:
        steps.append("every member shows a certificate by the new CA, without a restart")
        steps.append("every member ceases to trust the old CA, and is restarted (one at a time)")
    return steps


def _version(olds: Inputs, news: Inputs, staying: Sequence[str]) -> list[str]:
    old, new = olds["version"], news["version"]
    if old == new:
        return []
    names, before, after = _names(staying), series(old), series(new)
    steps = ["a snapshot is taken and checked before the first member moves"]
    if before != after:
        steps.append(f"{names}: restarted once before, where their log could not be read by {after} (one at a time)")
        if before == "3.5":
            steps.append(f"{names}: checked for data of etcd's old v2 API")
    steps.append(f"{names}: {old} -> {new}, one at a time, followers first, the leader last")
    return [*steps, *(f"note: {warning}" for warning in change_warnings(old, new))]


def _settings(olds: Inputs, news: Inputs, staying: Sequence[str]) -> list[str]:
    """Returns the restart for changed settings. If the version changes too, the same restart brings both."""
    before: Mapping[str, Any] = olds.get("etcd") or {}
    after: Mapping[str, Any] = news.get("etcd") or {}
    changed = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    if olds.get("size") != news.get("size"):
        changed.append("the quota of the size")
    if not changed or olds["version"] != news["version"]:
        return []
    return [f"{_names(staying)}: restarted for {', '.join(changed)}, one at a time, followers first, the leader last"]


def _users(olds: Inputs, news: Inputs) -> list[str]:
    """Returns the steps that change etcd's users and roles. No member restarts for them."""
    if not _users_differ(olds, news):
        return []
    before: Mapping[str, Sequence[str]] = olds.get("users") or {}
    after: Mapping[str, Sequence[str]] = news.get("users") or {}
    old_roles: Mapping[str, Any] = olds.get("roles") or {}
    new_roles: Mapping[str, Any] = news.get("roles") or {}
    changed = sorted(
        role for role in old_roles.keys() & new_roles if _plain(old_roles[role]) != _plain(new_roles[role])
    )
    if not after:
        return [
            "etcd's authentication is turned off, without a restart: every client with a certificate of the CA may do "
            "everything; then users and roles that the stack made are removed"
        ]
    steps = [
        *(
            f"user {name}: {'added, ' if name not in before else ''}with {_names(roles)}"
            for name, roles in sorted(after.items())
            if _plain(before.get(name)) != _plain(roles)
        ),
        *(f"role {name}: its keys change" for name in changed),
        *(
            f"user {name} is removed: its certificate may do nothing from then on"
            for name in sorted(before.keys() - after)
        ),
    ]
    if not before:
        steps.append(
            "etcd's authentication is turned on, without a restart: from then on, a client may do nothing without the "
            f"certificate of one of these users; the exported clientCertificate is that of user {CLIENT}, with "
            f"{_names(after[CLIENT])}; JSON requests (/v3/...) with a certificate are refused"
        )
    return steps


def _defragmentation(olds: Inputs, news: Inputs) -> list[str]:
    """Returns what another `defragment` does. What is free, only machines know."""
    before: Mapping[str, Any] | None = olds.get("defragment")
    after: Mapping[str, Any] | None = news.get("defragment")
    if before == after:
        return []
    if not after:
        return ["databases are not defragmented any more, unless etcd's alarm NOSPACE stands"]
    share, mib = f"{after['free']:.0%}", f"{after['at_least_mib']:.0f} MiB"
    return [
        f"members of whose database at least {share} and {mib} are free are restarted to defragment it, in this and in "
        "every later `up`: one at a time, followers first, the leader last; the only member of a cluster, when it "
        "restarts for something else"
    ]


def _known(value: object) -> bool:
    return not isinstance(value, Unknown) and value != UNKNOWN


def _names(names: Any) -> str:
    return ", ".join(sorted(names))

"""Whatever state a cluster is found in, actions lead to the desired state and end there, and none breaks a rule.

Each seed is a story: a cluster is formed, changed, cut short in the middle of a step, tampered with, and changed again.
The model (rollout_model.py) raises where a real cluster would break.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, cast

import pytest
import yaml

from etcd_cluster.etcd.versions import Version, unsupported_change
from etcd_cluster.formation_lifecycle import agree_on_token, founders
from etcd_cluster.formation_refusals import FormationError
from etcd_cluster.member import render
from etcd_cluster.member.machines import StepFailedError
from etcd_cluster.member.render import Security
from etcd_cluster.pki import x509
from etcd_cluster.rollout import changes, observed
from etcd_cluster.rollout.desired import PROFILE_PATH, UNIT_PATH, series
from etcd_cluster.rollout.inputs import shown_roles
from etcd_cluster.rollout.observed import KeyRange, Missing, MissingKind
from etcd_cluster.rollout.planner import differences, next_action
from etcd_cluster.rollout.planner.actions import Refusal, WaitReason
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
from etcd_cluster.users import OURS, SAFE_SINCE, Permission, Users
from tests.unit.rollout_model import (
    CA,
    CONFIGURATION,
    GIB,
    LAYOUT,
    OF_CLIENTS,
    OF_PEERS,
    PEER,
    PEER_CA,
    SERVER,
    Goal,
    Machine,
    Model,
)

STORIES, A_CHAPTER = 1000, 50
VERSIONS = ("3.4.9", "3.4.45", "3.5.35", "3.6.16", "3.7.3")
LETTERS = "abcdefg"
TROUBLES = [
    *("stop", "reboot", "lose", "pending", "edit", "chmod", "chown", "delete", "boot", "missing", "disk", "v2"),
    *("hide", "hide and reboot"),
    *("mute", "mute all", "purge", "purge all", "expire", "expire all", "no CAs", "no CAs at all"),
]
"""What may go wrong with one machine, by somebody's hand or by itself."""
QUOTAS = [quota * GIB for quota in (1, 2, 4, 8)]
RANGES: dict[str | None, KeyRange] = {
    "/app/": KeyRange(b"/app/", b"/app0"),
    None: KeyRange(b"\0", b"\0"),
    "one": KeyRange(b"one", b""),
    "a to c": KeyRange(b"a", b"c"),
    "from a": KeyRange(b"a", b"\0"),
    "what no words name": KeyRange(b"a\0", b"b"),
}
USERS = (
    None,
    Users({"client": ["root"], "app": ["app"]}, {"app": [Permission("readwrite", "/app/")]}),
    Users(
        {"client": ["app"], "app": ["app", "reader"]},
        {"app": [Permission("read", key="one")], "reader": [Permission("read", "")]},
    ),
    Users({"client": ["root"], "admin": ["root"]}, {}),
)
HIDDEN = (WaitReason.DATA_HIDDEN, WaitReason.DATA_DELETED, Refusal.MOUNTED_OVER)


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same texts are rendered and read thousands of times."""
    rendered: dict[str, str] = {}

    def configuration(spec: render.MemberSpec, bootstrap: Any = None, real: Any = render.etcd_configuration) -> str:
        key = f"{spec!r} {bootstrap!r}"
        if key not in rendered:
            rendered[key] = real(spec, bootstrap)
        return rendered[key]

    monkeypatch.setattr(render, "etcd_configuration", configuration)
    monkeypatch.setattr(observed.yaml, "safe_load", lru_cache(5000)(yaml.safe_load))
    monkeypatch.setattr(x509, "split_bundle", lru_cache(5000)(x509.split_bundle))
    monkeypatch.setattr(x509, "signed_by", lru_cache(5000)(x509.signed_by))
    monkeypatch.setattr(x509, "validity_of", lru_cache(5000)(x509.validity_of))
    monkeypatch.setattr(x509, "covers_host", lru_cache(5000)(x509.covers_host))


@cache
def formed(names: tuple[str, ...], version: str, tls: bool, has_peer_ca: bool) -> tuple[Model, Goal]:
    goal = Goal(names, version, tls, founders=names, peer_trusted=(0,) if has_peer_ca else None)
    return Model.running(goal), goal


def inputs(goal: Goal) -> dict[str, Any]:
    """Of the resource, as far as changes are refused for them."""
    members = {name: goal.address(name) for name in goal.names}
    cas = list(goal.trusted) if goal.tls else []
    return {
        "members": members,
        "tls": goal.tls,
        "version": goal.version,
        "ca_fingerprints": cas,
        "peer_ca_fingerprints": list(goal.peer_trusted or ()) if goal.tls else [],
        "allow_plaintext": True,
        "users": goal.users.users if goal.users else {},
        "roles": shown_roles(goal.users),
    }


class Story:
    """One seed's."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.space = random.Random(-seed - 1)  # of its own, so that the other stories stay as they are
        self.network = random.Random(f"network {seed}")
        self.access = random.Random(f"users {seed}")
        count = self.random.choice((1, 3, 3, 3, 5))
        is_of_today = self.random.random() < 0.6
        start = formed(tuple(LETTERS[:count]), self.random.choice(VERSIONS), self.random.random() < 0.7, is_of_today)
        self.model, self.goal = copy.deepcopy(start)
        self.model.clients_only = seed % 2 == 0
        self.done = self.goal
        self.is_under_way = False
        self.is_second_try = False
        self.is_overloaded = False
        if not is_of_today:
            self.update_the_package()

    def update_the_package(self) -> None:
        """The cluster was formed, and maybe a change begun, when members had no CA of their own."""
        if self.random.random() < 0.5:
            self.change()
            self.be_killed()
        self.model.without_peer_ca()
        self.goal = replace(self.goal, peer_trusted=(0,))
        self.say(f"the package is updated: {self.goal}")

    def say(self, what: str) -> None:
        self.model.log.append(f"  -- {what}")

    def change(self) -> None:
        """The stack asks for something else."""
        asked = [self.version, self.tls, self.ca, self.peer_ca, self.renewals]
        asked += [self.members, self.address, self.settings]
        chosen = self.random.sample(asked, self.random.choice((0, 1, 1, 1, 2, 3)))
        if self.space.random() < 0.3:
            chosen.append(self.quota)
        if self.access.random() < 0.4:
            chosen.append(self.users)
        for change in chosen:
            before = self.goal
            change()
            if changes.refusals(inputs(self.done), inputs(self.goal)):
                self.goal = before
            if self.goal != before:
                self.say(f"{change.__name__}: {self.goal}")

    def version(self) -> None:
        newer = [
            each for each in VERSIONS if each > self.goal.version and not unsupported_change(self.goal.version, each)
        ]
        if newer:
            self.goal = replace(self.goal, version=self.random.choice(newer))

    def users(self) -> None:
        """Other users and roles, or none."""
        safe = SAFE_SINCE[series(self.goal.version)]
        if self.goal.tls and Version.parse(self.goal.version) >= Version.parse(safe):
            self.goal = replace(self.goal, users=self.access.choice(USERS))

    def tls(self) -> None:
        if self.goal.users:
            return  # settings.py refuses that
        if not any(map(self.is_damaged, self.model.machines)):
            peers = None if self.goal.peer_trusted is None else (self.goal.peer_signer,)
            self.goal = replace(self.goal, tls=not self.goal.tls, trusted=(self.goal.signer,), peer_trusted=peers)

    def ca(self) -> None:
        trusted, signer = self.rotated(self.goal.trusted, self.goal.signer, len(OF_CLIENTS))
        self.goal = replace(self.goal, trusted=trusted, signer=signer)

    def peer_ca(self) -> None:
        if self.goal.peer_trusted is not None:
            trusted, signer = self.rotated(self.goal.peer_trusted, self.goal.peer_signer, len(OF_PEERS))
            self.goal = replace(self.goal, peer_trusted=trusted, peer_signer=signer)

    def rotated(self, trusted: tuple[int, ...], signer: int, count: int) -> tuple[tuple[int, ...], int]:
        """What is trusted next, and who signs then."""
        new = (signer + 1) % count
        if any(map(self.is_damaged, self.model.machines)):
            return trusted, signer  # what a broken certificate would be replaced by is not trusted yet
        if len(trusted) > 1:
            return trusted[:1], trusted[0]  # the overlap ends
        return ((new, signer), signer) if self.random.random() < 0.7 else ((new,), new)

    def renewals(self) -> None:
        name = self.random.choice(self.goal.names)
        self.goal = replace(self.goal, renewals={**self.goal.renewals, name: self.goal.renewals.get(name, 0) + 1})

    def members(self) -> None:
        kept = self.random.sample(self.goal.names, self.random.randint(1, len(self.goal.names)))
        kept += [name for name in self.goal.names if name not in kept and self.is_damaged(name)]
        others = [name for name in LETTERS if name not in kept]
        count = self.random.choice([each for each in (1, 3, 5) if each >= len(kept)])
        names = [*kept, *self.random.sample(others, count - len(kept))]
        self.goal = replace(self.goal, names=tuple(sorted(names)))

    def is_damaged(self, name: str) -> bool:
        """A member that is down, or cannot speak."""
        machine = self.model.machines.get(name)
        if machine is None or not machine.data:
            return False
        speaks_tls = machine.process is not None and machine.process.security != Security.of(False)
        return machine.process is None or (speaks_tls and "" in (machine.shown(PEER), machine.shown(SERVER)))

    def address(self) -> None:
        """One at a time: the old one is gone at once, and two members that are cut off are for people to repair."""
        voters = [self.model.machine_of(each) for each in self.model.voters()]
        if self.goal.addresses != self.done.addresses or self.is_under_way or None in voters:
            return
        name = self.random.choice(self.goal.names)
        parts = self.goal.address(name).split(".")
        address = ".".join([*parts[:2], str(int(parts[2]) + 1), parts[3]])
        self.goal = replace(self.goal, addresses={**self.goal.addresses, name: address})

    def settings(self) -> None:
        beat = self.random.choice((100, 150, 200))
        asked = {"heartbeat-interval": beat, "election-timeout": beat * 10}
        self.goal = replace(self.goal, user_options={**self.goal.user_options, **asked})

    def quota(self) -> None:
        self.ask_for_quota(self.space.choice(QUOTAS))

    def ask_for_quota(self, quota: int) -> None:
        self.goal = replace(self.goal, user_options={**self.goal.user_options, "quota-backend-bytes": quota})

    def prepare(self) -> None:
        """What a stack does before the rollout."""
        for name in self.goal.names:
            if name not in self.model.machines:
                self.model.add_machine(name, self.goal.address(name), self.goal.version)
            machine = self.model.machines[name]
            if self.goal.address(name) not in (machine.address, machine.second_address):
                is_second = machine.process is not None and self.network.random() < 0.5
                setattr(machine, "second_address" if is_second else "address", self.goal.address(name))
            if not machine.mounted_over:
                self.model.prepare(machine, self.goal.version)

    def tamper(self) -> None:
        """Something goes wrong, within what a cluster can bear: the data of a minority may be lost."""
        if self.space.random() < 0.2:
            self.fill()
        if self.access.random() < 0.3:
            self.tamper_with_users()
        if self.network.random() < 0.15:
            closed = self.network.choice(list(self.model.machines.values()))
            closed.peer_port_closed = True
            self.say(f"a firewall closes the peer port of {closed.name}")
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3))):
            machine = self.random.choice(list(self.model.machines.values()))
            trouble = self.random.choice(TROUBLES)
            if machine.data and CONFIGURATION in machine.files and self.may_happen(trouble, machine):
                self.say(f"{trouble} {machine.name}")
                self.happen(trouble, machine)

    def tamper_with_users(self) -> None:
        """Somebody changes them by hand."""
        users, roles = self.model.users, self.model.roles
        what = self.access.choice(("add", "delete", "grant", "revoke", "permit", "forbid"))
        self.say(f"by hand: {what} users or roles")
        if what == "add":
            users["theirs"], roles["of-theirs"] = {"of-theirs"}, {}
        elif what == "permit" and "app" in roles:
            roles["app"][self.access.choice([*RANGES.values()])] = "write"
        elif what == "forbid" and "app" in roles:
            roles["app"].clear()
        elif users.keys() - {"root"}:
            name = self.access.choice(sorted(users.keys() - {"root"}))
            if what == "delete":
                del users[name]
            elif what == "grant":
                users[name] |= {role for role in ("root", "app") if role in roles}
            elif what == "revoke":
                users[name].clear()

    def may_happen(self, trouble: str, machine: Machine) -> bool:
        if trouble == "v2":
            return machine.ran.startswith("3.4")
        if (
            trouble in ("stop", "lose", "chown", "delete", "pending", "hide and reboot", "expire", "expire all")
            and self.goal.addresses != self.done.addresses
        ):
            return False  # a member that moves is cut off already
        if trouble in ("stop", "reboot", "hide and reboot") and machine.name not in self.goal.names:
            return False  # one that is to leave is not started again
        if trouble in ("chown", "delete", "expire", "expire all", "no CAs", "no CAs at all"):
            peers = self.done.peer_trusted
            is_trusted = self.goal.signer in self.done.trusted and (peers is None or self.goal.peer_signer in peers)
            return self.goal.tls and machine.name in self.goal.names and is_trusted
        if trouble in ("purge", "purge all") and self.goal.tls != self.done.tls:
            return False  # without a quorum as well, nothing tells how far the change of TLS is
        if trouble == "lose":
            voters = self.model.voters()
            intact = [each for each in map(self.model.machine_of, voters) if each and each is not machine]
            return len(intact) > len(voters) // 2
        return True

    def happen(self, trouble: str, machine: Machine) -> None:
        name, pick = machine.name, self.random.choice
        certificates = [path for path in machine.files if path.startswith(LAYOUT.pki) and path not in (CA, PEER_CA)]
        others = [CONFIGURATION, UNIT_PATH, PROFILE_PATH]
        happenings: dict[str, Callable[[], object]] = {
            "stop": lambda: self.model.stop(name),
            "reboot": lambda: self.model.reboot(name),
            "lose": lambda: pick([self.model.lose_data, self.model.reinstall])(name),
            "edit": lambda: self.model.edit(name, pick(others)),
            "chmod": lambda: self.model.chmod(name, pick(others), "600"),
            "chown": lambda: self.model.chmod(name, pick(certificates), "400", "root") if certificates else None,
            "delete": lambda: machine.files.pop(pick(certificates)) if certificates else None,
            "pending": lambda: setattr(machine, "pending", True),
            "boot": lambda: setattr(machine, "on_boot", False),
            "missing": lambda: machine.missing.append(Missing(MissingKind.USER)),
            "disk": lambda: setattr(machine, "device_bytes", machine.device_bytes * 2),
            "v2": lambda: setattr(machine, "v2_until", self.model.index),
            "mute": lambda: self.overload(machine),
            "purge": lambda: self.lose_files(machine, CONFIGURATION, UNIT_PATH),
            "expire": lambda: self.model.expire(name),
            "no CAs": lambda: self.lose_files(machine, CA),
            "hide": lambda: self.model.mount_over(name),
            "hide and reboot": lambda: (self.model.mount_over(name), self.model.reboot(name)),
        }
        everywhere = {
            "mute all": "mute",
            "purge all": "purge",
            "expire all": "expire",
            "no CAs at all": "no CAs",
        }
        if trouble in everywhere:
            for each in self.model.machines.values():
                if each.data and CONFIGURATION in each.files:
                    self.happen(everywhere[trouble], each)
        else:
            happenings[trouble]()

    def overload(self, machine: Machine) -> None:
        machine.mute, self.is_overloaded = self.random.randint(1, 6), True

    def lose_files(self, machine: Machine, *paths: str) -> None:
        for path in paths:
            machine.files.pop(path, None)

    def fill(self) -> None:
        """The database grows, at most until an alarm ends that; a larger quota can be had."""
        quotas = [each.process.quota_bytes for each in self.model.machines.values() if each.process]
        if quotas and not self.model.alarms:
            self.say("fill")
            limit = min(*quotas, 4 * GIB)
            database_bytes = self.space.choice([limit // 3, limit // 2, limit + 1])
            used_after = self.space.choice([{}, {10_000: limit // 2}, {10_000: limit // 10 * 9 + 1, 0: limit // 3}])
            self.model.fill(database_bytes, used_after=used_after)

    def be_killed(self) -> None:
        """A run that ends in the middle of a step."""
        self.is_under_way = True
        actions, share = self.random.randint(1, 12), self.random.random()
        self.say(f"a run that is killed after {actions} actions")
        self.run(stop_after=actions, cut=lambda steps: round(steps * share))

    def run(self, **cut_short: Any) -> None:
        """As the stack asks. What is refused or fails with an advice, is done once more after that was heeded."""
        self.prepare()
        done = len(self.model.log)
        context = RunContext(users_before=self.done.users)
        try:
            self.model.run(self.goal, context=context, **cut_short)
        except (RefusedError, StepFailedError) as error:
            reason = error.kind if isinstance(error, RefusedError) else None
            if reason in HIDDEN:
                assert len(self.model.log) == done, "something was done to a cluster whose data are hidden"
                self.say(f"{error}: unmounted")
                self.model.unmount_all()
                self.run(**cut_short)
                return
            if reason in (Refusal.QUOTA_TOO_SMALL, Refusal.ALARM_NOSPACE):
                self.say(str(error))
                self.ask_for_quota(QUOTAS[-1])
                self.run(**cut_short)
                return
            if isinstance(error, RefusedError) and reason is Refusal.NO_ROOT_USER:
                self.say(f"{error}: done")
                for name in cast("list[str]", error.details["members"]):
                    self.model.users[name] = {*self.model.users.get(name, ()), "root"}
                self.run(**cut_short)
                return
            if self.repair_network():
                self.say(f"{error}: the network is repaired")
                self.run(**cut_short)
                return
            if self.is_overloaded:
                self.is_overloaded = False
                self.say(f"{error}: all answer again")
                for machine in self.model.machines.values():
                    machine.mute = 0
                self.run(**cut_short)
                return
            if self.is_second_try:
                raise
            self.is_second_try = True
            self.say(f"{type(error).__name__}: {error}")
            asked = self.goal
            with_members = (Refusal.LEAVING_MEMBER_DISTRUSTS, WaitReason.LEAVING_MEMBER_DOWN)
            if reason in (*with_members, Refusal.USERS_OF_MIXED_VERSIONS):
                self.goal = replace(asked, names=self.done.names)
                self.run()
            elif reason and not asked.tls:
                # Without TLS, there are no certificates to repair a member with, or for one that joins.
                self.goal = replace(asked, tls=True, trusted=self.done.trusted, signer=self.done.signer)
                if self.done.peer_trusted is not None:
                    peers = {"peer_trusted": self.done.peer_trusted, "peer_signer": self.done.peer_signer}
                    self.goal = replace(self.goal, **peers)
                self.run()
            elif reason:
                raise
            self.goal = asked
            self.run(**cut_short)
            self.is_second_try = False

    def repair_network(self) -> bool:
        """Opens the peer ports, and has connections come from the addresses that the stack names."""
        machines = self.model.machines.values()
        closed = [each for each in machines if each.peer_port_closed]
        moved = [each for each in machines if each.process and f"//{each.second_address}:" in each.process.peer_url]
        for machine in closed:
            machine.peer_port_closed = False
        for machine in moved:
            machine.address, machine.second_address = machine.second_address, machine.address
        return bool(closed or moved)

    def end(self) -> None:
        self.say("the last run")
        self.run()
        self.require_what_was_asked()
        self.done, self.is_under_way = self.goal, False

    def require_what_was_asked(self) -> None:
        goal, model = self.goal, self.model
        desired, observation = goal.desired, model.observe(list(model.machines))
        assert {each.name for each in model.members} == set(goal.names)
        assert not model.alarms
        self.require_users()
        assert not any(each.learner for each in model.members)
        assert {name: differences(desired, observation, name) for name in goal.names} == {
            name: [] for name in goal.names
        }
        for name in goal.names:
            machine = model.machines[name]
            assert machine.process
            assert machine.process.version == goal.version
            assert machine.process.security == desired.security
            assert list(machine.process.trusted) == list(desired.trusted)
            assert list(machine.process.peer_trusted) == list(desired.peer_trusted)
            assert machine.process.configuration == machine.content(CONFIGURATION)
            assert machine.history.members == observation.member_ids
        assert next_action(desired, observation, RunContext()) is None

    def require_users(self) -> None:
        goal, model = self.goal, self.model
        if goal.users is None and self.done.users is None:
            return
        assert model.is_guarded == (goal.users is not None)
        ours = {name for name, roles in model.users.items() if OURS in roles}
        if goal.users is None:
            assert not ours
            return
        wanted = {**{name: ["root"] for name in ("root", *goal.names)}, **goal.users.users}
        assert ours == wanted.keys()
        assert {name: model.users[name] for name in ours} == {name: {*each, OURS} for name, each in wanted.items()}
        for name, permissions in goal.users.roles.items():
            assert model.roles[name] == {RANGES[each.prefix or each.key]: each.access for each in permissions}


def tell(seed: int) -> None:
    """Raises what went wrong in that story, after having printed the whole of it."""
    story = Story(seed)
    try:
        for _ in range(story.random.choice((1, 2, 3))):
            story.change()
            story.tamper()
            if story.random.random() < 0.6:
                story.be_killed()
                story.tamper()
            else:
                story.end()
        story.end()
    except Exception:
        print(f"story {seed}:", *story.model.log, sep="\n")
        raise


@pytest.mark.parametrize("first", range(0, STORIES, A_CHAPTER))
def test_every_story_ends_with_what_was_asked(first: int) -> None:
    for seed in range(first, first + A_CHAPTER):
        tell(seed)


class FirstUps:
    """One seed's story of a cluster that is formed: by runs that are killed, on machines that are reinstalled or lose
    data in between, and after a `destroy`. What Pulumi's state holds of it: the record of forming, and a rollout."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        names = tuple(LETTERS[: self.random.choice((1, 3, 3, 3, 5))])
        self.goal = Goal(names, "3.6.16", self.random.random() < 0.5, founders={})
        self.model = Model()
        for name in names:
            self.model.add_machine(name, self.goal.address(name), "").token = ""
        self.is_formation_recorded = self.is_rollout_recorded = False
        self.kept: dict[str, Machine] = {}

    def say(self, what: str) -> None:
        self.model.log.append(f"  -- {what}")

    @property
    def machines(self) -> list[Machine]:
        return [self.model.machines[name] for name in self.goal.names]

    def reports(self) -> dict[str, dict[str, Any]]:
        """As check.sh makes them."""
        return {
            machine.name: {
                "machine": machine.identity,
                "token": machine.token,
                "running": machine.process is not None,
                "data": machine.data,
                "history": None if machine.history == observed.History() else machine.history.members,
                "formed": machine.formed,
            }
            for machine in self.machines
        }

    def up(self, **cut_short: Any) -> None:
        if not self.is_formation_recorded:
            reports = self.reports()
            token = agree_on_token(reports)
            self.goal = replace(self.goal, token=token, founders=founders(reports))
            self.is_formation_recorded = True
        for machine in self.machines:
            self.model.prepare(machine, self.goal.version, self.goal.token)
        context = RunContext(forming=not self.is_rollout_recorded)
        self.is_rollout_recorded |= self.model.run(self.goal, context=context, **cut_short)

    def destroy(self) -> None:
        self.say("destroy")
        self.model.destroy()
        self.is_formation_recorded = self.is_rollout_recorded = False

    def lose(self) -> None:
        """Any subset of data, markers, notes and machines. Members stop for that, if they run."""
        for machine in self.machines:
            if self.random.random() < 0.5:
                continue
            machine.process = None
            kept = copy.deepcopy(machine)
            name, lose = machine.name, self.random.choice(("lose_folder", "lose_data", "reinstall", "lose_note"))
            self.say(f"{lose} {name}")
            if lose == "lose_note":
                machine.formed = machine.forming = ""
            else:
                getattr(self.model, lose)(name)
            if lose == "reinstall":
                self.model.machines[name].token = ""
            if kept.data:
                self.kept.setdefault(name, kept)

    def bring_back(self) -> None:
        for name, machine in self.kept.items():
            if not self.model.machines[name].data:
                self.say(f"the data of {name} are back")
                self.model.machines[name] = machine
                machine.process = None
        self.kept.clear()

    def start_empty(self) -> None:
        """As docs/destroy.md says."""
        self.destroy()
        self.say("start empty")
        for machine in self.machines:
            self.model.lose_data(machine.name)
            machine.formed = machine.forming = ""
        self.up()

    def slow(self) -> None:
        """One of the members that run does not answer the others for a while."""
        machine = self.random.choice(self.machines)
        self.say(f"{machine.name} is slow")
        machine.cut_off = True

    def tell(self) -> None:
        for _ in range(self.random.choice((1, 2, 3))):
            if self.random.random() < 0.4:
                self.slow()
            share = self.random.random()
            try:
                stop_after = self.random.choice((1, 1, 2, 5))
                self.up(stop_after=stop_after, cut=lambda steps, share=share: round(steps * share))
            except (RefusedError, FormationError, StepFailedError) as error:
                self.say(f"{type(error).__name__}: {error}")
            for machine in self.machines:
                machine.cut_off = False
            if self.random.random() < 0.6:
                self.destroy()
            self.lose()
        self.end()

    def end(self) -> None:
        """`up` ends well, else it does with what was lost brought back; else nothing but to start empty is left."""
        for repair in (lambda: None, self.bring_back):
            repair()
            try:
                self.up()
            except (RefusedError, FormationError, StepFailedError) as error:
                self.say(f"{type(error).__name__}: {error}")
            else:
                break
        else:
            self.start_empty()
        assert self.model.leader
        assert {each.name for each in self.model.members} == set(self.goal.names)
        assert all(self.model.healthy(name) for name in self.goal.names)


@pytest.mark.parametrize("first", range(0, STORIES // 2, A_CHAPTER))
def test_every_first_up_ends_with_one_cluster_or_is_refused(first: int) -> None:
    for seed in range(first, first + A_CHAPTER):
        story = FirstUps(seed)
        try:
            story.tell()
        except Exception:
            print(f"first ups {seed}:", *story.model.log, sep="\n")
            raise

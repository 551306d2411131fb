"""Whatever is secret in config stays secret in state, previews and errors."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest

from etcd_cluster import ConfigurationError, EtcdCluster, EtcdClusterArgs, Install, LocalMachines
from etcd_cluster.settings import validate_arguments
from etcd_cluster.stack_config import NAMESPACE, args_from_stack_config
from tests.unit.keys import host_key, private_key
from tests.unit.recording import Recording, record
from tests.unit.test_cluster import results

PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEhunter2\n-----END OPENSSH PRIVATE KEY-----\n"
OWN_KEY = private_key()
SUM = "ab" * 32
HOSTS = {f"h{number}": {"address": f"10.0.0.{number}", "hostKey": host_key(number)} for number in (1, 2, 3)}
SECRET_HOSTS = {
    f"h{number}": {"address": f"hunter2-{number}.example", "hostKey": host_key(number), "device": "/dev/hunter2"}
    for number in (1, 2, 3)
}
CLIENT = {"address": "10.0.0.9", "hostKey": host_key(9), "privateKey": OWN_KEY}
LOADED = {"loadCheck": "report", "loadGenerator": {"client": CLIENT}}


def configure(secrets: tuple[str, ...], **values: Any) -> None:
    texts = {f"{NAMESPACE}:{key}": each if isinstance(each, str) else json.dumps(each) for key, each in values.items()}
    pulumi.runtime.set_all_config(texts, [f"{NAMESPACE}:{key}" for key in secrets])


def run(*secrets: str, preview: bool = False, **values: Any) -> Recording:
    def program() -> None:
        configure(secrets, **{"platform": "hosts", "hosts": HOSTS, **values})
        cluster = EtcdCluster("etcd", args_from_stack_config())
        pulumi.export("members", cluster.members)

    return record(program, preview=preview, results=(lambda _: {}) if preview else results)


def without_secrets(value: Any) -> Any:
    """Property values with every marked secret taken out, however deep it lies."""
    if pulumi.runtime.rpc.is_rpc_secret(value):
        return "[secret]"
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def shown(recording: Recording) -> str:
    resources = [without_secrets(dict(resource.inputs)) for resource in recording.resources.values()]
    return json.dumps([resources, without_secrets(recording.outputs)], default=repr)


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize(
    ("secrets", "values"),
    [
        (("install",), {"install": {"mirror": "https://hunter2:hunter2@m.example/hunter2?token=hunter2"}}),
        (("install",), {"install": {"mirror": "https://m.example/hunter2", "sha256": SUM}}),
        (("install",), {"install": {"proxy": "http://me:hunter2@proxy.example:3128"}}),
        (("install",), {"install": {"from": "build", "goProxy": "https://hunter2@proxy.example"}}),
        (("install",), {"install": {"from": "archive", "archive": "/srv/hunter2.tar.gz"}}),
        (
            ("install",),
            {
                "platform": "local",
                "hosts": {},
                "install": {"mirror": "https://m/hunter2", "goProxy": "https://hunter2"},
            },
        ),
        (("hosts",), {"hosts": SECRET_HOSTS}),
        (("ssh",), {"ssh": {"user": "hunter2", "privateKey": OWN_KEY}}),
        ((), {"ssh": {"privateKey": OWN_KEY}}),
        ((), LOADED),
        (("loadGenerator",), {**LOADED, "loadGenerator": {"client": {**CLIENT, "address": "hunter2.example"}}}),
        (
            ("etcd",),
            {
                "etcd": {
                    "host-whitelist": "hunter2,hunter2.example",
                    "heartbeat-interval": 200,
                    "election-timeout": 2000,
                }
            },
        ),
    ],
    ids=[
        *("mirror", "pinned", "download proxy", "proxy", "archive", "local", "hosts", "ssh", "key"),
        *("client's key", "client", "etcd"),
    ],
)
def test_a_secret_stands_nowhere_in_the_clear(secrets: tuple[str, ...], values: Any, preview: bool) -> None:
    recording = run(*secrets, preview=preview, **values)
    assert recording.resources
    assert "hunter2" not in shown(recording)
    assert "openssh" not in shown(recording).lower()
    assert not [name for name in recording.resources if "hunter2" in name]
    assert not [warning for warning in recording.warnings if "hunter2" in warning]


def test_a_secret_still_gets_where_it_is_used() -> None:
    recording = run("install", install={"mirror": "https://m.example/hunter2/"})
    prepare = recording.resources["etcd-h1-prepare"]
    assert prepare.value("create") == "bash -s -- prepare member=h1 version=3.6.16 install=release"
    assert "\nmirror=https://m.example/hunter2\n" in prepare.value("stdin")
    recording = run("install", install={"proxy": "http://me:hunter2@proxy:3128"})
    assert "\nproxy=http://me:hunter2@proxy:3128\n" in recording.resources["etcd-h1-prepare"].value("stdin")
    recording = run("hosts", hosts=SECRET_HOSTS)
    assert "address=hunter2-1.example" in recording.resources["etcd-h1-check"].value("create")
    recording = run("etcd", etcd={"host-whitelist": "a", "pre-vote": False})
    assert recording.resources["etcd-rollout"].value("etcd") == {"host-whitelist": "a", "pre-vote": False}


def test_what_is_no_secret_is_shown_as_before() -> None:
    recording = run(install={"mirror": "https://m.example/a/"})
    line = "bash -s -- prepare member=h1 version=3.6.16 install=release mirror=https://m.example/a"
    assert recording.resources["etcd-h1-prepare"].value("create") == line
    recording = run(install={"proxy": "http://proxy:3128", "noProxy": [".lan", "10.0.0.5"]})
    assert (
        recording.resources["etcd-h1-prepare"]
        .value("create")
        .endswith(" proxy=http://proxy:3128 no-proxy=.lan,10.0.0.5")
    )
    assert "mirror=" not in recording.resources["etcd-h1-prepare"].value("stdin").partition("read_spec()")[0]


@pytest.mark.parametrize("tag", ["aws", "gcp"])
def test_tags_of_a_secret_block_are_secret(tag: str) -> None:
    blocks: dict[str, Any] = {
        "aws": {"subnetIds": ["subnet-s"], "sshCidrs": ["10.0.0.0/8"], "tags": {"team": "hunter2"}},
        "gcp": {
            "network": "n",
            "subnetwork": "s",
            "zones": ["europe-west1-b"],
            "sshRanges": ["10.0.0.0/8"],
            "labels": {"team": "hunter2"},
        },
    }
    pytest.importorskip(f"pulumi_{tag}")
    configure((tag,), platform=tag, **{tag: blocks[tag]})
    machines: Any = args_from_stack_config().machines
    machines.member_names(3)
    kept = machines._kept_secret()
    values = (kept.tags if tag == "aws" else kept.labels)["team"], kept.subnet_ids[0] if tag == "aws" else kept.network
    assert all(isinstance(value, pulumi.Output) for value in values)


ERRORS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("install",), {"install": {"mirror": "hunter2"}}),
    (("install",), {"install": {"mirror": "http://hunter2"}}),
    ((), {"install": {"mirror": "https://m.example/?token=hunter2"}}),
    ((), {"install": {"mirror": "https://user:hunter2@m.example"}}),
    ((), {"install": {"mirror": "https://user:hunter2@m.example/a b"}}),
    (("install",), {"install": {"sha256": "hunter2"}}),
    (("install",), {"install": {"sha256": {"hunter2": SUM}}}),
    (("install",), {"install": {"from": "hunter2"}}),
    (("install",), {"install": {"goproxy": "hunter2", "hunter2": 1}}),
    (("install",), {"install": "hunter2"}),
    (("hosts",), {"hosts": {"a": {"address": "https://hunter2", "hostKey": host_key()}}}),
    (("hosts",), {"hosts": {"a": {"address": "b", "hostKey": "hunter2"}}}),
    (("hosts",), {"hosts": {"a": {"address": "b", "hostKey": host_key(), "device": "hunter2"}}}),
    (("hosts",), {"hosts": {"a": {"address": "b", "hostKey": host_key(), "hunter2": "c"}}}),
    (("ssh",), {"ssh": {"port": "hunter2"}}),
    (("ssh",), {"ssh": {"user": ["hunter2"]}}),
    (("ssh",), {"ssh": {"privateKeyFile": "hunter2"}}),
    ((), {"ssh": {"privateKey": "hunter2"}}),
    ((), {"ssh": {"privateKey": PEM}}),
    ((), {"install": {"from": "build", "goProxy": "https://hunter2@m"}}),
    (("aws",), {"platform": "aws", "aws": {"subnetIds": ["hunter2"], "sshCidrs": ["hunter2"]}}),
    ((), {"ssh": {"privateKeyFile": PEM}}),
    ((), {"ssh": {"privateKeyFile": PEM.replace("PRIVATE KEY", "THING")}}),
    ((), {"ssh": {"user": PEM}}),
    ((), {"ssh": {PEM: None}}),
    ((), {"ssh": {"port": PEM}}),
    (("etcd",), {"etcd": {"log-level": "hunter2"}}),
    (("etcd",), {"etcd": {"heartbeat-interval": "hunter2"}}),
    (("etcd",), {"etcd": {"feature-gates": "hunter2=true"}}),
    (("etcd",), {"etcd": {"auth-token": "hunter2"}}),
    ((), {"etcd": {"cors": PEM}}),
    ((), {"etcd": {PEM: 1}}),
    (("members",), {"members": "hunter2"}),
    (("tls",), {"tls": "hunter2"}),
    (("version",), {"version": "hunter2"}),
    (("size",), {"size": "hunter2"}),
    (("platform",), {"platform": "hunter2"}),
    (("local",), {"platform": "local", "hosts": {}, "local": {"directory": "/srv/hunter2"}}),
    ((), {PEM: "a"}),
]


@pytest.mark.parametrize(("secrets", "values"), ERRORS, ids=[str(number) for number in range(len(ERRORS))])
def test_no_error_shows_a_secret(secrets: tuple[str, ...], values: dict[str, Any]) -> None:
    configure(secrets, **{"platform": "hosts", "hosts": HOSTS, **values})
    with pytest.raises(ConfigurationError) as refused:
        validate_arguments(args_from_stack_config())
    assert "hunter2" not in str(refused.value)
    assert "BEGIN" not in str(refused.value)


def test_a_mirror_that_is_an_output_is_kept_secret_and_checked_when_known() -> None:
    def program(mirror: str) -> Recording:
        install = Install(mirror=pulumi.Output.from_input(mirror))
        return record(
            lambda: EtcdCluster("etcd", EtcdClusterArgs(LocalMachines(directory="/srv"), install=install)),
            results=results,
        )

    assert "hunter2" not in shown(program("https://m.example/hunter2"))
    with pytest.raises(ConfigurationError, match=r"install\.mirror") as refused:
        program("http://m.example/hunter2")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("install", "refused"),
    [
        (Install(mirror="http://m"), True),
        (Install(mirror="http://m", sha256=SUM), False),
        (Install(mirror="https://m"), False),
        (Install("build", mirror="http://m"), False),
        (Install("archive", mirror="http://m", archive="a.tar.gz"), False),
        (Install(mirror="http://m", sha256={"etcd-v3.6.16-linux-amd64.tar.gz": SUM}), False),
        (Install(mirror="http://m", sha256={"etcd-v3.6.15-linux-amd64.tar.gz": SUM}), True),
        (Install(mirror="http://m", sha256={"etcd-v3.6.16-linux-arm64.tar.gz": "short"}), True),
        (Install(mirror="http://m", sha256={}), True),
        (Install(mirror="https://m/#fragment"), True),
        (Install(mirror="https://m/\nurl=x"), True),
        (Install(mirror='https://m/"x'), True),
        (Install(mirror="https://é"), True),
    ],
)
def test_http_needs_a_sum(install: Install, refused: bool) -> None:
    arguments = EtcdClusterArgs(LocalMachines(), install=install)
    if not refused:
        validate_arguments(arguments)
        return
    with pytest.raises(ConfigurationError, match=r"^install\."):
        validate_arguments(arguments)


def test_a_client_that_loads_the_cluster_is_reached_as_the_members_and_gets_a_certificate_of_their_ca() -> None:
    ssh = {"user": "admin", "port": 2222, "privateKey": OWN_KEY, "bastion": {"address": "b", "hostKey": host_key(8)}}
    named = {"address": "10.0.0.9", "hostKey": host_key(9)}
    recording = run(ssh=ssh, loadCheck="require", loadGenerator={"client": named})
    loaded = recording.resources["etcd-load-check"]
    client = loaded.value("client")
    connection = client["connection"]
    assert (connection["host"], connection["user"], connection["port"]) == ("10.0.0.9", "admin", 22)
    assert (connection["hostKey"], connection["privateKey"]) == (host_key(9), OWN_KEY)
    assert connection["proxy"]["host"] == "b"
    assert (client["version"], client["issuer"]["common_name"]) == ("3.6.16", "client")
    assert loaded.value("generator") == {"source": "build"}
    members = {connection["host"] for connection in loaded.value("connections").values()}
    assert members == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}, "theirs stay as they were"
    other = {**named, "user": "me", "port": 2200, "privateKey": private_key()}
    recording = run(loadCheck="require", loadGenerator={"client": other}, users={"app": {"roles": ["root"]}})
    client = recording.resources["etcd-load-check"].value("client")
    assert (client["connection"]["user"], client["connection"]["port"]) == ("me", 2200)
    assert client["issuer"]["common_name"] == "root"


def test_without_a_client_the_state_has_none() -> None:
    recording = run(loadCheck="report")
    assert "client" not in recording.resources["etcd-load-check"].inputs

"""Which folder may import which, and what is loaded when. Imports inside functions count as well."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ENGINE = "embedded_engine"
FOR_THE_ENGINE = {
    "etcd_cluster.errors",
    "etcd_cluster.ssh.client",
    "etcd_cluster.ssh.connection",
    "etcd_cluster.ssh.processes",
    "etcd_cluster.state_folder",
}
"""All that the engine needs of the package. Each further entry ties the two together: think twice."""


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def sources(folder: str) -> list[Path]:
    found = sorted((PROJECT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("folder", ["etcd_cluster", "examples", "policy"])
def test_only_scripts_and_tests_import_the_embedded_engine(folder: str) -> None:
    offenders = [
        f"{file.relative_to(PROJECT)} imports {name}"
        for file in [*sources(folder), PROJECT / "__main__.py"]
        for name in imported(file)
        if name.split(".")[0] == ENGINE
    ]
    assert offenders == []


def test_the_embedded_engine_imports_only_named_modules_of_the_package() -> None:
    used = {name for file in sources(ENGINE) for name in imported(file) if name.split(".")[0] == "etcd_cluster"}
    assert used <= FOR_THE_ENGINE


PACKAGE = "etcd_cluster"
LAZY = re.compile(r"# lazily: \w+")
"""What stands beside, or above, an import in a function that is not to be counted: with its reason."""


def _modules() -> dict[str, Path]:
    names = {file: ".".join(file.relative_to(PROJECT).with_suffix("").parts) for file in sources(PACKAGE)}
    return {name.removesuffix(".__init__"): file for file, name in names.items()}


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _used(file: Path, modules: Collection[str]) -> set[str]:
    """The modules of the package that a file needs to run, apart from those that it imports lazily."""
    lines = file.read_text().splitlines()
    used: set[str] = set()
    rest: list[ast.AST] = [ast.parse(file.read_text())]
    while rest:
        node = rest.pop()
        if _is_for_types(node):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            is_lazy = any(LAZY.search(line) for line in lines[max(node.lineno - 2, 0) : node.end_lineno])
            names = {f"{node.module}.{alias.name}" for alias in node.names} & set(modules)
            used |= set() if is_lazy else names or {node.module}
        rest.extend(ast.iter_child_nodes(node))
    return used


def _circles(uses: Mapping[str, Collection[str]]) -> list[str]:
    """Every path that leads back to where it began, once."""
    done: set[str] = set()
    found: list[str] = []

    def walk(path: list[str]) -> None:
        for name in sorted(uses.get(path[-1], ())):
            if name in path:
                found.append(" -> ".join([*path[path.index(name) :], name]))
            elif name not in done:
                walk([*path, name])
        done.add(path[-1])

    for name in sorted(uses):
        if name not in done:
            walk([name])
    return found


def test_no_two_modules_import_each_other() -> None:
    """By whichever way. Imports in functions count as well, unless they say why they are lazy."""
    modules = _modules()
    assert _circles({name: _used(file, modules) for name, file in modules.items()}) == []


def test_a_circle_is_found() -> None:
    assert _circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == ["b -> c -> b"]


FOUNDATIONS = ("etcd", "ssh")
"""Folders that know of the errors, the names, the rules of values and one another, and of nothing above."""


@pytest.mark.parametrize("folder", FOUNDATIONS)
def test_what_is_below_knows_nothing_above_it(folder: str) -> None:
    modules = _modules()
    below = (*FOUNDATIONS, "errors", "releases", "names", "typed", "lifecycle", "providers")
    offenders = [
        f"{name} imports {used}"
        for name, file in modules.items()
        if name.split(".")[1:2] == [folder]
        for used in sorted(_used(file, modules))
        if used.split(".")[1] not in below
    ]
    assert offenders == []


def test_installing_knows_nothing_of_settings_members_or_the_rollout() -> None:
    modules = _modules()
    used = {each for name, file in modules.items() if ".install" in name for each in _used(file, modules)}
    below = {"etcd", "ssh", "releases", "rclone", "load_generator", "errors", "lifecycle", "providers"}
    assert {each.split(".")[1] for each in used} <= {"install", *below}


NEVER_FOR_ARGUMENTS = (
    "cryptography",
    "etcd_cluster.rollout",
    "etcd_cluster.install",
    "etcd_cluster.machines.aws",
    "etcd_cluster.machines.gcp",
    "etcd_cluster.ssh.client",
    "pulumi_aws",
    "pulumi_gcp",
)


def loaded(program: str) -> set[str]:
    """The modules that a program has imported at its end, in a process of its own."""
    asked = [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(asked, check=True, capture_output=True, text=True, cwd=PROJECT).stdout.split())


def test_arguments_load_nothing_that_only_an_update_needs() -> None:
    found = loaded("from etcd_cluster import EtcdClusterArgs, LocalMachines\nEtcdClusterArgs(machines=LocalMachines())")
    assert "etcd_cluster.settings" in found
    assert {each for each in NEVER_FOR_ARGUMENTS if each in found} == set()


def test_the_component_loads_neither_cryptography_nor_what_acts_on_machines() -> None:
    found = loaded("from etcd_cluster import EtcdCluster")
    unwanted = ("cryptography", "etcd_cluster.rollout.planner", "etcd_cluster.ssh.client", "etcd_cluster.machines.aws")
    assert {each for each in unwanted if each in found} == set()


@pytest.mark.parametrize(
    ("provider", "left_out"),
    [
        ("CertificateProvider", ["etcd_cluster.rollout", "etcd_cluster.install", "etcd_cluster.ssh.client"]),
        ("SshKeyPairProvider", ["etcd_cluster.rollout", "etcd_cluster.install", "etcd_cluster.pki"]),
        ("LocalBinariesProvider", ["etcd_cluster.rollout", "cryptography", "etcd_cluster.settings"]),
        ("DeliveredBinariesProvider", ["etcd_cluster.rollout", "cryptography", "etcd_cluster.settings"]),
        ("RolloutProvider", ["etcd_cluster.install", "etcd_cluster.settings", "etcd_cluster.cluster"]),
        ("BackupScheduleProvider", ["etcd_cluster.rollout.planner", "etcd_cluster.install", "etcd_cluster.settings"]),
        ("RestoreSourceProvider", ["etcd_cluster.rollout.planner", "etcd_cluster.install", "etcd_cluster.settings"]),
        ("MetricsEndpointsProvider", ["etcd_cluster.rollout.planner", "etcd_cluster.install", "etcd_cluster.settings"]),
    ],
)
def test_a_provider_loads_what_its_call_needs(provider: str, left_out: list[str]) -> None:
    found = loaded(f"from etcd_cluster import providers\nproviders.{provider}()._lifecycle")
    assert {each for each in [*left_out, "pulumi_aws", "pulumi_gcp"] if each in found} == set()


def test_providers_alone_load_no_lifecycle() -> None:
    found = {each for each in loaded("import etcd_cluster.providers") if each.startswith("etcd_cluster.")}
    assert found == {"etcd_cluster.errors", "etcd_cluster.lifecycle", "etcd_cluster.providers"}


TOGETHER = """
import sys
import threading

sys.setswitchinterval(1e-6)
from etcd_cluster import providers

found = [each for name, each in vars(providers).items() if name.endswith("Provider") and not name.startswith("_")]
found = [each for each in found if hasattr(each, "implementation")]
together, errors = threading.Barrier(len(found)), []


def load(provider):
    together.wait()
    try:
        provider()._lifecycle
    except Exception as error:
        errors.append(repr(error))


threads = [threading.Thread(target=load, args=(each,)) for each in found]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("\\n".join(errors) or len(found) < 5)
"""


def test_providers_that_are_called_at_once_load_whole_modules() -> None:
    """Engines call them from several threads. Without a lock, most attempts fail."""
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", TOGETHER], capture_output=True, text=True, check=False, cwd=PROJECT
        )
        assert done.returncode == 0, done.stderr

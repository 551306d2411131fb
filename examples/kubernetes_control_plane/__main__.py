"""A platform program: an etcd cluster, and what a Kubernetes control plane needs to use it.

Every control plane host gets the certificates where kubeadm expects those of an external etcd; the stack exports the
flags of kube-apiserver. Hosts get them only once etcd is healthy, since the component's outputs come no sooner.
"""

from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import remote

from etcd_cluster import EtcdCluster, EtcdClusterArgs, Host, HostMachines, Ssh

CA = "/etc/kubernetes/pki/etcd/ca.crt"
CERTIFICATE = "/etc/kubernetes/pki/apiserver-etcd-client.crt"
KEY = "/etc/kubernetes/pki/apiserver-etcd-client.key"

config = pulumi.Config()
ssh = Ssh(user="admin", private_key=config.require_secret("sshKey"))

etcd_hosts: dict[str, dict[str, Any]] = config.require_object("etcdHosts")
etcd = EtcdCluster(
    "etcd",
    EtcdClusterArgs(
        machines=HostMachines(
            {name: Host(host["address"], host["hostKey"], device=host["device"]) for name, host in etcd_hosts.items()},
            ssh,
        ),
        size="large",  # up to 1,000 nodes
    ),
)

flags = etcd.endpoints.apply(
    lambda endpoints: [
        f"--etcd-servers={','.join(endpoints)}",
        f"--etcd-cafile={CA}",
        f"--etcd-certfile={CERTIFICATE}",
        f"--etcd-keyfile={KEY}",
    ]
)

# The key goes in by standard input, which is secret; the line that everybody can read says only what is done.
certificates = pulumi.Output.all(etcd.ca_certificate, etcd.client_certificate, etcd.client_key).apply(
    lambda pems: "\n".join(
        [
            Path(__file__).with_name("put_certificates.sh").read_text(),
            f"put 0644 {CA} <<'PEM'\n{pems[0].strip()}\nPEM",
            f"put 0644 {CERTIFICATE} <<'PEM'\n{pems[1].strip()}\nPEM",
            f"put 0600 {KEY} <<'PEM'\n{pems[2].strip()}\nPEM",
        ]
    )
)
control_plane_hosts: dict[str, dict[str, Any]] = config.require_object("controlPlaneHosts")
for name, host in control_plane_hosts.items():
    remote.Command(
        f"{name}-etcd-certificates",
        remote.CommandArgs(
            connection=ssh.connection(host["address"], host["hostKey"]),
            create=f"sudo -n bash -s -- put-etcd-certificates host={name}",
            stdin=pulumi.Output.secret(certificates),
            logging=remote.Logging.NONE,
            add_previous_output_in_env=False,
        ),
        pulumi.ResourceOptions(hide_diffs=["stdin"]),
    )

pulumi.export("kubeApiserverFlags", flags)

"""Where etcd's binaries come from when a host does not download a release itself.

`sources` works on the machine where Pulumi runs and knows nothing of Pulumi; `resources` puts it into a program.
"""

"""Gets etcd's binaries where a host does not download a release itself.

`sources` works on the machine where Pulumi runs and knows nothing of Pulumi; `resources` puts it into a program.
"""

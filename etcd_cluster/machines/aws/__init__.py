"""AWS: for each member an EC2 instance, with a data volume and a network interface that outlive it."""

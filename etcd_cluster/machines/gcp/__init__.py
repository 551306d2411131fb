"""Google Cloud: for each member a Compute Engine instance, with a data disk and an internal address that outlive it."""

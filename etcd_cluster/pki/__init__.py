"""Makes certificates: a CA and what it signs, as Pulumi resources, and as pure functions (x509)."""

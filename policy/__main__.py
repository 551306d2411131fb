"""The rules as a policy pack: `pulumi preview --policy-pack policy`. A broken rule stops the preview, and `up`."""

from collections.abc import Callable
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)
from rules import RULES, Rule


def policy(rule: Rule) -> ResourceValidationPolicy:
    """One rule, as the engine asks for it."""
    return ResourceValidationPolicy(rule.name, rule.description, _validation(rule), EnforcementLevel.MANDATORY)


def _validation(rule: Rule) -> Callable[[ResourceValidationArgs, ReportViolation], Any]:
    def validate(args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
        for violation in rule.violations(args.resource_type, args.props):
            report_violation(violation)

    return validate


if __name__ == "__main__":
    PolicyPack("etcd-cluster", [policy(rule) for rule in RULES])

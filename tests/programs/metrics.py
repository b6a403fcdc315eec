"""Reads metrics as Prometheus' own client does, strictly, and writes each family with its labels as JSON."""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    labels = {label for sample in family.samples for label in sample.labels} - {"le"}
    assert family.documentation, family.name
    assert family.name not in families, f"{family.name} is there twice"
    families[family.name] = {"type": family.type, "labels": sorted(labels)}
json.dump(families, sys.stdout)

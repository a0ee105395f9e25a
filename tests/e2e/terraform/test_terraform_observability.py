"""What is watched: the dashboard and the alerts, against the function's lines, the metrics and Google's messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from google.cloud.monitoring_dashboard_v1 import Dashboard

from tests.pictures.dashboard import dashboards
from tests.support.documentation import page
from tests.support.terraform import ROOT, of_type

# Terraform starts every provider anew for every plan, and may have to download them first.
pytestmark = pytest.mark.timeout(300)

Plan = Mapping[str, Any]


@pytest.fixture(params=["minimal", "everything"])
def plan(request: pytest.FixtureRequest) -> Plan:
    found: Plan = request.getfixturevalue(request.param)
    return found


def _dashboard(plan: Plan) -> str:
    (dashboard,) = of_type(plan, "google_monitoring_dashboard")
    text: str = dashboard["dashboard_json"]
    return text


def _conditions(plan: Plan, kind: str) -> Iterator[Mapping[str, Any]]:
    for alert in of_type(plan, "google_monitoring_alert_policy"):
        (condition,) = alert["conditions"]
        yield from condition[kind]


def _filters(plan: Plan) -> list[str]:
    """Return every filter and query of the dashboard and of the alerts."""
    found = re.findall(r'"(?:filter|prometheusQuery)":("(?:[^"\\]|\\.)*")', _dashboard(plan))
    texts: list[str] = [json.loads(text) for text in found]
    texts += [
        condition["filter"]
        for kind in ("matched_log", "threshold")
        for condition in _conditions(plan, f"condition_{kind}")
    ]
    return texts + [condition["query"] for condition in _conditions(plan, "condition_prometheus_query_language")]


def _messages(text: str) -> list[str]:
    """Return the messages of the function that a filter looks for."""
    found = re.findall(r"jsonPayload\.message=(\".*?\"|\(.*?\))", text)
    return [message for alternatives in found for message in re.findall(r'"(.*?)"', alternatives)]


def test_dashboard_is_kept_by_the_api_as_it_is_written(plan: Plan) -> None:
    """Its fields are those of Google's message, and none has a value that the API drops: a second plan is empty."""
    text = _dashboard(plan)

    dashboard = Dashboard.from_json(text)

    kept = Dashboard.to_json(dashboard, always_print_fields_with_no_presence=False, use_integers_for_enums=False)
    assert json.loads(kept) == json.loads(text)


def test_tiles_lie_side_by_side(plan: Plan) -> None:
    """No tile lies over another or outside of the columns."""
    layout = Dashboard.from_json(_dashboard(plan)).mosaic_layout
    cells = [
        (x, y)
        for tile in layout.tiles
        for x in range(tile.x_pos, tile.x_pos + tile.width)
        for y in range(tile.y_pos, tile.y_pos + tile.height)
    ]
    assert len(cells) == len(set(cells))
    assert {x for x, _ in cells} == set(range(layout.columns))


def test_pictures_show_the_dashboard(minimal: Plan) -> None:
    """A change of the dashboard needs ``make pictures``."""
    for name, drawn in dashboards(_dashboard(minimal)).items():
        shown = (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")
        assert shown == drawn, f"{name} is stale: make pictures"


def test_legends_name_labels_that_the_series_have(plan: Plan) -> None:
    """A filter's labels are told from the metric's and the resource's; PromQL has one kind alone."""
    for tile in Dashboard.from_json(_dashboard(plan)).mosaic_layout.tiles:
        for one in tile.widget.xy_chart.data_sets:
            named = re.findall(r"\$\{(.*?)\}", one.legend_template)
            query = one.time_series_query
            kept = re.findall(r"sum by \((.*?)\)", query.prometheus_query)
            grouped = query.time_series_filter.aggregation.group_by_fields
            expected = [re.sub(r'label\."(\w+)"', r"labels.\1", field) for field in grouped]
            assert named == expected + [f"labels.{label}" for label in kept], tile.widget.title


def test_watched_lines_are_lines_of_the_function(minimal: Plan) -> None:
    """Each message that a metric, an alert or the dashboard looks for is one that the function writes."""
    written = "\n".join(file.read_text() for file in (ROOT / "cleaner").rglob("*.py"))
    filters = [*(metric["filter"] for metric in of_type(minimal, "google_logging_metric")), *_filters(minimal)]
    watched = {message for text in filters for message in _messages(text)}
    assert watched == {
        "manifest deleted", "prune finished", "prune interrupted", "sweep interrupted", "message rejected",
        "permission denied",
    }  # fmt: skip
    assert [message for message in sorted(watched) if f'"{message}"' not in written] == []


def test_legends_name_every_line(minimal: Plan) -> None:
    """Each line that a chart counts has a field for a label of its legend, or its series has no name."""
    (table,) = (table for table in page("docs/operations.md").tables if table.heading == "Log lines")
    fields = {
        message: set(re.findall(r"`(\w+)`", row[2]))
        for row in table.rows
        for message in re.findall("`(.*?)`", row[0])
    }
    metrics = {one["name"].split("/")[1]: one["filter"] for one in of_type(minimal, "google_logging_metric")}
    unnamed = []
    for tile in Dashboard.from_json(_dashboard(minimal)).mosaic_layout.tiles:
        for one in tile.widget.xy_chart.data_sets:
            query = one.time_series_query
            names = re.findall(r"user[/_][\w-]+[/_](\w+)", query.time_series_filter.filter or query.prometheus_query)
            # A label has the name of its field.
            labels = set(re.findall(r"labels\.(\w+)\}", one.legend_template))
            lines = [line for name in names if labels for line in _messages(metrics.get(name, ""))]
            unnamed += [line for line in lines if not labels & fields[line]]
    assert unnamed == []


def test_watched_metrics_and_subscriptions_exist(plan: Plan) -> None:
    """Each metric of the log is made from it and shown; each subscription that delivers is watched."""
    metrics = {metric["name"] for metric in of_type(plan, "google_logging_metric")}
    texts = _filters(plan)
    filtered = {name for text in texts for name in re.findall(r"logging\.googleapis\.com/user/([\w/-]+)", text)}
    queried = {name for text in texts for name in re.findall(r"logging_googleapis_com:user_(\w+?)(?:_sum)?\{", text)}
    spelled = {re.sub(r"\W", "_", name): name for name in metrics}
    assert filtered | {spelled[name] for name in queried} == metrics

    subscriptions = {one["name"]: bool(one["push_config"]) for one in of_type(plan, "google_pubsub_subscription")}
    delivered = {name for name, is_push in subscriptions.items() if is_push}
    watched = [text for text in texts if 'resource.type="pubsub_subscription"' in text]
    assert len(watched) == 5
    for text in watched:
        function, arguments = re.findall(r"subscription_id=([\w.]+)\((\".*?\")\)(?: |$)", text)[0]
        values = json.loads(f"[{arguments}]")
        pattern = "|".join(map(re.escape, values)) if function == "one_of" else values[0]
        assert {name for name in subscriptions if re.fullmatch(pattern, name)} == delivered


def test_other_projects_are_not_watched(plan: Plan) -> None:
    """A project may show the metrics of others, where the module has the same names."""
    (project,) = {one["project"] for one in of_type(plan, "google_monitoring_alert_policy")}
    metrics = [text for text in _filters(plan) if "metric.type=" in text or "increase(" in text]
    assert len(metrics) > 10
    assert [text for text in metrics if f'project_id="{project}"' not in text] == []


def test_alerts_notify_once_for_all_repositories(plan: Plan) -> None:
    """Each combination of extracted values notifies on its own, so only what has few values is extracted."""
    labels = {
        label
        for condition in _conditions(plan, "condition_matched_log")
        for label in condition["label_extractors"] or ()
    }
    assert labels == {"message", "permission"}


def _log_filter(plan: Plan, title: str) -> str:
    """Return the filter of the alert on the log with this title; empty if there is none."""
    filters: Iterator[str] = (
        one["filter"]
        for alert in of_type(plan, "google_monitoring_alert_policy")
        if alert["display_name"].endswith(f": {title}")
        for one in alert["conditions"][0]["condition_matched_log"]
    )
    return next(filters, "")


def test_removed_topics_and_subscriptions_alert(plan: Plan) -> None:
    """Without them no message waits, and no delivery is refused; Pub/Sub's audit log alone tells."""
    filter_ = _log_filter(plan, "delivery removed")
    assert 'log_id("cloudaudit.googleapis.com/activity")' in filter_
    (method,) = re.findall(r'methodName=~"(.*?)"', filter_)
    (resource,) = re.findall(r'resourceName=~"(.*?)"', filter_)

    methods = ("Publisher.DeleteTopic", "Publisher.DetachSubscription", "Subscriber.DeleteSubscription")
    assert all(re.search(method, f"google.pubsub.v1.{name}") for name in methods)
    assert not re.search(method, "google.pubsub.v1.Subscriber.UpdateSubscription")
    delivered = [one["name"] for one in of_type(plan, "google_pubsub_subscription") if one["push_config"]]
    requests = next(name for name in delivered if name.endswith("-requests"))
    needed = [f"subscriptions/{name}" for name in delivered] + ["topics/gcr", f"topics/{requests}"]
    # The log may name the project by its number.
    assert [name for name in needed if not re.search(resource, f"projects/123/{name}")] == []
    assert not re.search(resource, "projects/123/subscriptions/other-gcr")
    # A request to delete that was denied is an error.
    assert "severity<ERROR" in filter_


def test_schedules_that_fail_alert(minimal: Plan, everything: Plan) -> None:
    """The function is not called then, and no message is there that could wait."""
    title = "sweeps not requested"
    assert _log_filter(minimal, title) == ""
    filter_ = _log_filter(everything, title)
    assert 'resource.type="cloud_scheduler_job"' in filter_
    assert "severity>=ERROR" in filter_
    (job,) = re.findall(r'job_id=~"(.*?)"', filter_)
    names = [one["name"] for one in of_type(everything, "google_cloud_scheduler_job")]
    assert names
    assert all(re.search(job, name) for name in names)


def test_too_many_deletions_alert_only_where_a_number_is_set(minimal: Plan, everything: Plan) -> None:
    """It is off by default: nobody but the operator knows how many are many."""
    kind = "condition_prometheus_query_language"
    assert list(_conditions(minimal, kind)) == []
    (condition,) = _conditions(everything, kind)
    assert re.search(
        r'_deleted\{monitored_resource="cloud_run_revision",[^}]*\}\[1h\]\)\) > 500$', condition["query"]
    )
    # The metric is minutes old when the alert is made.
    assert condition["disable_metric_validation"] is True


def test_alerts_on_deliveries(minimal: Plan) -> None:
    """Messages that wait, that are given up, and deliveries that are refused, where the function writes no line."""
    watched = {
        re.findall(r'metric\.type="pubsub\.googleapis\.com/subscription/(\w+)"', condition["filter"])[0]: condition
        for condition in _conditions(minimal, "condition_threshold")
    }
    thresholds = {metric: condition["threshold_value"] for metric, condition in watched.items()}
    assert thresholds == {"oldest_unacked_message_age": 7200, "dead_letter_message_count": 0, "push_request_count": 0}
    refused = watched["push_request_count"]["filter"]
    assert 'metric.labels.response_class="remote_server_4xx"' in refused
    # Every instance is busy: nothing is wrong, and the message comes again.
    (busy,) = re.findall(r'response_code!=monitoring\.regex\.full_match\("(.*?)"\)', refused)
    codes = ("429", "unreachable_4xx_error_429", "resource_exhausted", "403", "permission_denied", "404", "401")
    assert [code for code in codes if not re.fullmatch(busy, code)] == ["403", "permission_denied", "404", "401"]

//! Cells by table.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::kinds::Kinds;

#[test]
fn ages_are_written_as_kubectl_writes_them() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let (minute, hour, day) = (60, 3600, 86_400);
    for (seconds, wanted) in [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (2 * minute, "2m"),
        (3 * minute + 4, "3m4s"),
        (10 * minute + 4, "10m"),
        (179 * minute, "179m"),
        (3 * hour, "3h"),
        (3 * hour + 20 * minute, "3h20m"),
        (8 * hour + 20 * minute, "8h"),
        (47 * hour, "47h"),
        (2 * day, "2d"),
        (2 * day + 3 * hour, "2d3h"),
        (8 * day + 3 * hour, "8d"),
        (729 * day, "729d"),
        (2 * 365 * day + 3 * day, "2y3d"),
        (9 * 365 * day, "9y"),
    ] {
        let then = now - jiff::SignedDuration::from_secs(seconds);
        assert_eq!(age(&json!(then.to_string()), now), wanted, "{seconds}");
    }
    assert_eq!(age(&json!("soon"), now), "<unknown>");
}

#[test]
fn events_tell_what_they_are_about_and_environments_where_they_are() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let kinds = Kinds::default();
    let rows = |group: &str, plural: &str, object: Value| {
        let kind = kinds.find(group, "v1", plural).unwrap();
        let table = table(kind, vec![object], &json!({}), now, true, Rows::None);
        let columns = table["columnDefinitions"].as_array().unwrap().clone();
        let cells = table["rows"][0]["cells"].as_array().unwrap().clone();
        assert_eq!(columns.len(), cells.len());
        let cells = columns.into_iter().zip(cells);
        let cells = cells.map(|(column, cell)| {
            (
                column["name"].as_str().unwrap().to_owned(),
                column["priority"].as_i64().unwrap(),
                cell,
            )
        });
        cells.collect::<Vec<_>>()
    };
    let narrow = |rows: &[(String, i64, Value)]| {
        let narrow = rows.iter().filter(|(_, priority, _)| *priority == 0);
        let cells =
            narrow.map(|(name, _, cell)| format!("{name}={}", cell.as_str().unwrap_or_default()));
        cells.collect::<Vec<_>>().join(" ")
    };
    let event = json!({"metadata": {"name": "e.1"}, "involvedObject": {"kind": "Environment", "name": "web"}, "reason": "Started", "type": "Normal", "message": "it runs", "lastTimestamp": null, "eventTime": "2025-12-31T23:59:00Z", "count": 3});
    let event = rows("", "events", event);
    assert_eq!(
        narrow(&event),
        "Last Seen=60s Type=Normal Reason=Started Object=environment/web Message=it runs"
    );
    assert_eq!(event.last().unwrap(), &("Name".to_owned(), 1, json!("e.1")));
    let web = json!({"metadata": {"name": "web", "creationTimestamp": "2025-12-31T23:00:00Z"}, "spec": {"state": "Stopped", "className": "large", "runnerName": "r1", "source": {"git": {"url": "https://x"}}}, "status": {"phase": "Running"}});
    let web = rows("boatyard.dev", "environments", web);
    assert_eq!(
        narrow(&web),
        "Name=web Phase=Running Source=https://x Age=60m"
    );
    for (name, wanted) in [("Wanted", "Stopped"), ("Class", "large"), ("Runner", "r1")] {
        assert!(web.contains(&(name.to_owned(), 1, json!(wanted))), "{name}");
    }
}

#[test]
fn a_row_is_made_of_what_it_reads_as_of_the_whole_object() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for kind in Kinds::default().iter() {
        for mut object in kind.samples() {
            object["metadata"] = json!({"name": "x", "namespace": "y", "labels": {"a": "b"}, "creationTimestamp": "2025-01-01T00:00:00Z"});
            for rows in [Rows::None, Rows::Metadata, Rows::Object] {
                let read = read_by(kind, rows).read(object.to_string().as_bytes());
                assert_eq!(
                    row(kind, read.unwrap(), now, rows),
                    row(kind, object.clone(), now, rows),
                    "{} {rows:?}",
                    kind.kind
                );
            }
        }
    }
}

//! Ranges as they are written.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn ranges_are_read_and_what_is_wrong_with_them_is_said() {
    for (cidr, first, last) in [
        ("0.0.0.0/0", [0, 0, 0, 0], [255, 255, 255, 255]),
        ("10.0.0.0/8", [10, 0, 0, 0], [10, 255, 255, 255]),
        ("203.0.113.7", [203, 0, 113, 7], [203, 0, 113, 7]),
        ("203.0.113.4/31", [203, 0, 113, 4], [203, 0, 113, 5]),
    ] {
        assert_eq!(range(cidr).unwrap(), (first.into(), last.into()), "{cidr}");
    }
    for (cidr, wrong) in [
        ("10.0.0.1/8", "must begin at its first address, 10.0.0.0/8"),
        ("fd00::/8", "must be of IPv4"),
        ("10.0.0.0/33", "such as 203.0.113.0/24"),
        ("10.0.0.0/+8", "such as 203.0.113.0/24"),
        ("10.0.0/8", "such as 203.0.113.0/24"),
        ("example.org", "such as 203.0.113.0/24"),
    ] {
        let said = range(cidr).unwrap_err();
        assert!(said.contains(wrong), "{cidr}: {said}");
    }
}

#[test]
fn a_policys_ranges_and_exceptions_are_checked_where_they_stand() {
    let rule = |cidr: &str, except: &[&str]| EgressRule {
        cidr: Some(cidr.to_owned()),
        except: except.iter().map(|text| (*text).to_owned()).collect(),
        ..EgressRule::default()
    };
    let egress = Egress {
        mode: EgressMode::AllowList,
        allow: vec![
            rule("0.0.0.0/0", &["10.0.0.0/8"]),
            rule("10.0.0.0/8", &["11.0.0.0/8", "x"]),
            rule("::/0", &[]),
        ],
    };
    let errors = egress.validate("spec.egress");
    let places: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    let wanted = [
        "spec.egress.allow[1].except[0]",
        "spec.egress.allow[1].except[1]",
        "spec.egress.allow[2].cidr",
    ];
    assert_eq!(places, wanted);
}

//! What a policy allows, in words and in elements of sets.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::spec::AllowedName;

fn named(name: &str, below: bool, ports: &[u16]) -> AllowedName {
    AllowedName {
        name: name.to_owned(),
        below,
        ports: ports.to_vec(),
    }
}

fn range(first: &str, last: &str, ports: &[u16]) -> AllowedRange {
    AllowedRange {
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        ports: ports.to_vec(),
    }
}

#[test]
fn names_are_allowed_by_themselves_or_by_what_they_lie_below() {
    let egress = Egress {
        names: vec![
            named("example.org", false, &[]),
            named("wild.example", true, &[443]),
            named("www.wild.example", false, &[80]),
        ],
        ..Egress::default()
    };
    for (name, expected) in [
        ("example.org", Some(vec![])),
        ("www.example.org", None),
        ("notexample.org", None),
        ("wild.example", None),
        ("a.wild.example", Some(vec![443])),
        ("a.b.wild.example", Some(vec![443])),
        ("www.wild.example", Some(vec![80, 443])),
        ("evilwild.example", None),
        (".wild.example", None),
        ("", None),
    ] {
        assert_eq!(allows(&egress, name), expected, "{name}");
    }
}

#[test]
fn addresses_of_networks_that_only_their_own_know_are_not_public() {
    for (address, public) in [
        ("8.8.8.8", true),
        ("100.63.255.255", true),
        ("100.64.0.1", false),
        ("100.100.100.200", false),
        ("10.1.2.3", false),
        ("127.0.0.1", false),
        ("169.254.169.254", false),
        ("168.63.129.16", false),
        ("168.63.129.17", true),
        ("172.15.255.255", true),
        ("172.31.0.1", false),
        ("192.168.1.1", false),
        ("192.0.0.192", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("0.0.0.0", false),
    ] {
        assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
    }
}

#[test]
fn ranges_with_ports_never_overlap_in_their_set() {
    let ranges = [
        range("10.0.0.0", "10.0.0.255", &[80, 443]),
        range("10.0.0.128", "10.0.1.255", &[443]),
        range("10.0.2.0", "10.0.2.0", &[443]),
        range("9.9.9.9", "9.9.9.9", &[53]),
        range("1.1.1.1", "1.1.1.1", &[]),
    ];
    assert_eq!(
        port_ranges(&ranges),
        [
            "10.0.0.0-10.0.0.255 . 80",
            "10.0.0.0-10.0.2.0 . 443",
            "9.9.9.9 . 53"
        ]
    );
}

#[test]
fn keys_are_as_the_kernel_keeps_them() {
    let address = Ipv4Addr::new(203, 0, 113, 7);
    assert_eq!(bytes((address, None)), [203, 0, 113, 7]);
    let port = bytes((address, Some(443)));
    assert_eq!(port, [203, 0, 113, 7, 1, 187, 0, 0]);
    let refused = [203, 0, 113, 7, 17, 0, 0, 0, 0, 53, 0, 0];
    assert_eq!(shown(&refused).unwrap(), "203.0.113.7:53/udp");
    assert_eq!(shown(&refused[..7]), None);
}

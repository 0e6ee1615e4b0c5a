//! Classes against environments.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// `name`, `*.name`, `range` or `range-exception`, each perhaps with `:port,port`.
fn list(rules: &[&str]) -> Egress {
    let allow = rules.iter().map(|text| {
        let (what, ports) = text.split_once(':').unwrap_or((text, ""));
        let ports = ports.split(',').filter_map(|port| port.parse().ok());
        let (what, except) = match what.split_once('-') {
            Some((what, except)) => (what, vec![except.to_owned()]),
            None => (what, vec![]),
        };
        let numbered = what.starts_with(|c: char| c.is_ascii_digit());
        EgressRule {
            domain: (!numbered).then(|| what.to_owned()),
            cidr: numbered.then(|| what.to_owned()),
            except,
            ports: ports.collect(),
        }
    });
    Egress {
        mode: EgressMode::AllowList,
        allow: allow.collect(),
    }
}

fn mode(mode: EgressMode) -> Egress {
    Egress {
        mode,
        allow: vec![],
    }
}

/// As [`list`] writes it, but for ranges by first and last.
fn written(policy: &Policy) -> Vec<String> {
    let ports = |ports: &[u16]| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        if ports.is_empty() {
            String::new()
        } else {
            format!(":{}", ports.join(","))
        }
    };
    let names = policy.names.iter().map(|name| {
        let star = if name.below { "*." } else { "" };
        format!("{star}{}{}", name.name, ports(&name.ports))
    });
    let ranges = policy
        .ranges
        .iter()
        .map(|range| format!("{}-{}{}", range.first, range.last, ports(&range.ports)));
    names.chain(ranges).collect()
}

#[test]
fn without_a_policy_everything_is_open_and_either_may_close_it() {
    let open = Some(mode(EgressMode::Open));
    let closed = Some(mode(EgressMode::Closed));
    for (class, environment, expected) in [
        (None, None, EgressMode::Open),
        (open.clone(), None, EgressMode::Open),
        (None, open.clone(), EgressMode::Open),
        (None, closed.clone(), EgressMode::Closed),
        (closed.clone(), None, EgressMode::Closed),
        (open, closed.clone(), EgressMode::Closed),
        (Some(list(&["a.example"])), closed, EgressMode::Closed),
    ] {
        let decision = decide(class.as_ref(), environment.as_ref());
        assert_eq!(decision.mode, expected, "{class:?} {environment:?}");
        let nothing = (expected == EgressMode::Closed).then(Policy::default);
        assert_eq!(decision.policy, nothing);
        assert_eq!(decision.beyond, Vec::<String>::new());
    }
}

#[test]
fn what_is_in_force_is_what_both_allow_and_the_rest_is_named() {
    for (class, environment, expected, beyond) in [
        // Names.
        (
            vec!["a.example"],
            vec!["a.example"],
            vec!["a.example"],
            vec![],
        ),
        (
            vec!["*.example"],
            vec!["a.example"],
            vec!["a.example"],
            vec![],
        ),
        (
            vec!["*.example"],
            vec!["*.a.example"],
            vec!["*.a.example"],
            vec![],
        ),
        (
            vec!["*.example"],
            vec!["*.example"],
            vec!["*.example"],
            vec![],
        ),
        (
            vec!["*.a.example"],
            vec!["a.example"],
            vec![],
            vec!["a.example"],
        ),
        (
            vec!["a.example"],
            vec!["*.a.example"],
            vec![],
            vec!["*.a.example"],
        ),
        (
            vec!["*.example"],
            vec!["evilexample"],
            vec![],
            vec!["evilexample"],
        ),
        (
            vec!["a.example"],
            vec!["a.example", "b.example"],
            vec!["a.example"],
            vec!["b.example"],
        ),
        // Their ports.
        (
            vec!["a.example"],
            vec!["a.example:443"],
            vec!["a.example:443"],
            vec![],
        ),
        (
            vec!["a.example:80,443"],
            vec!["a.example:443"],
            vec!["a.example:443"],
            vec![],
        ),
        (
            vec!["a.example:443"],
            vec!["a.example"],
            vec!["a.example:443"],
            vec!["a.example"],
        ),
        (
            vec!["a.example:443"],
            vec!["a.example:22"],
            vec![],
            vec!["a.example (ports 22)"],
        ),
        (
            vec!["a.example:443", "*.example:22"],
            vec!["a.example:22,443,80"],
            vec!["a.example:22,443"],
            vec!["a.example (ports 22, 443, 80)"],
        ),
        // Ranges.
        (
            vec!["10.0.0.0/8"],
            vec!["10.1.0.0/16"],
            vec!["10.1.0.0-10.1.255.255"],
            vec![],
        ),
        (
            vec!["10.1.0.0/16"],
            vec!["10.0.0.0/8"],
            vec!["10.1.0.0-10.1.255.255"],
            vec!["10.0.0.0/8"],
        ),
        (
            vec!["10.0.0.0/8"],
            vec!["11.0.0.0/8"],
            vec![],
            vec!["11.0.0.0/8"],
        ),
        (
            vec!["0.0.0.0/0-10.0.0.0/8"],
            vec!["10.0.0.0/7"],
            vec!["11.0.0.0-11.255.255.255"],
            vec!["10.0.0.0/7"],
        ),
        // Two halves make a whole.
        (
            vec!["10.0.0.0/9", "10.128.0.0/9"],
            vec!["10.0.0.0/8"],
            vec!["10.0.0.0-10.127.255.255", "10.128.0.0-10.255.255.255"],
            vec![],
        ),
        (
            vec!["10.0.0.0/8:80", "10.0.0.0/8:443"],
            vec!["10.0.0.1:80,443"],
            vec!["10.0.0.1-10.0.0.1:80", "10.0.0.1-10.0.0.1:443"],
            vec![],
        ),
        (
            vec!["10.0.0.0/8:80"],
            vec!["10.0.0.1:22"],
            vec![],
            vec!["10.0.0.1 (ports 22)"],
        ),
        // A name is no address.
        (
            vec!["0.0.0.0/0"],
            vec!["a.example"],
            vec![],
            vec!["a.example"],
        ),
    ] {
        let decision = decide(Some(&list(&class)), Some(&list(&environment)));
        assert_eq!(
            written(&decision.policy.unwrap()),
            expected,
            "{class:?} {environment:?}"
        );
        assert_eq!(decision.beyond, beyond, "{class:?} {environment:?}");
        // Alone it is all of it.
        let alone = decide(None, Some(&list(&environment)));
        assert_eq!(alone.beyond, Vec::<String>::new());
    }
}

#[test]
fn who_wants_more_than_the_class_gets_the_classs_and_is_told() {
    let class = list(&["a.example"]);
    let decision = decide(Some(&class), Some(&mode(EgressMode::Open)));
    assert_eq!(written(decision.policy.as_ref().unwrap()), ["a.example"]);
    assert_eq!(
        decision.complaint("small").unwrap(),
        "spec.egress asks for the mode Open, which the class small does not allow; leave it out, or choose another class"
    );
    let closed = decide(Some(&mode(EgressMode::Closed)), Some(&class));
    assert_eq!(closed.mode, EgressMode::Closed);
    assert_eq!(closed.policy, Some(Policy::default()));
    assert_eq!(closed.beyond, ["a.example"]);
    assert_eq!(decide(None, None).complaint("small"), None);
}

#[test]
fn exceptions_are_taken_out_of_a_range() {
    for (rule, expected) in [
        ("10.0.0.0/8", vec!["10.0.0.0-10.255.255.255"]),
        ("10.0.0.0/8-10.0.0.0/8", vec![]),
        ("10.0.0.0/8-10.0.0.0/9", vec!["10.128.0.0-10.255.255.255"]),
        ("10.0.0.0/8-10.128.0.0/9", vec!["10.0.0.0-10.127.255.255"]),
        (
            "0.0.0.0/0-10.0.0.0/8",
            vec!["0.0.0.0-9.255.255.255", "11.0.0.0-255.255.255.255"],
        ),
        ("0.0.0.0/0-255.255.255.255", vec!["0.0.0.0-255.255.255.254"]),
    ] {
        let policy = policy(Some(&list(&[rule]))).unwrap();
        assert_eq!(written(&policy), expected, "{rule}");
    }
}

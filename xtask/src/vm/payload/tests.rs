//! What is read of cargo and of the command line.

use super::{Form, Program, programs};

#[test]
fn programs_are_read_from_cargos_messages() {
    let messages = r#"{"reason":"compiler-artifact","package_id":"path+file:///t/crates/sandbox#boatyard-sandbox@0.1.0","target":{"kind":["lib"],"name":"boatyard_sandbox","test":true},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///t/crates/sandbox#boatyard-sandbox@0.1.0","target":{"kind":["test"],"name":"probes","test":true},"profile":{"opt_level":"0","test":true},"features":[],"executable":"/t/deps/probes-1","fresh":true}
{"reason":"compiler-artifact","package_id":"path+file:///t/crates/testkit#boatyard-testkit@0.1.0","target":{"kind":["bin"],"name":"bench","test":true},"profile":{"opt_level":"0","test":false},"features":[],"executable":"/t/bench","fresh":true}
{"reason":"build-finished","success":true}"#;
    let program = |krate: &str, name: &str, path: &str, is_test| Program {
        krate: krate.to_owned(),
        name: name.to_owned(),
        path: path.into(),
        is_test,
    };
    assert_eq!(
        programs(messages),
        [
            program("sandbox", "probes", "/t/deps/probes-1", true),
            program("testkit", "bench", "/t/bench", false)
        ]
    );
}

#[test]
fn words_choose_the_form() {
    assert_eq!(Form::parse(&[]), Form::Whole);
    assert_eq!(Form::parse(&["short"]), Form::Short);
    assert_eq!(Form::parse(&["overbook"]), Form::Overbook);
    assert_eq!(Form::parse(&["io", "2"]), Form::Io(vec!["2".to_owned()]));
    assert_eq!(Form::parse(&["up"]), Form::One("up", Vec::new()));
    assert_eq!(
        Form::parse(&["shares", "a_storm"]),
        Form::One("shares", vec!["a_storm".to_owned()])
    );
    assert_eq!(Form::parse(&["sandbox"]), Form::Chosen(Vec::new()));
    assert_eq!(
        Form::parse(&["quotas", "limits"]),
        Form::Chosen(vec!["quotas".to_owned(), "limits".to_owned()])
    );
}

#[test]
fn everything_is_the_machines_of_forms_that_can_be_asked_for() {
    let machines = Form::parse(&[]).machines();
    let named: Vec<String> = machines.iter().map(ToString::to_string).collect();
    assert_eq!(named, ["sandbox", "testkit", "up"]);
    for (name, machine) in named.iter().zip(machines) {
        assert_eq!(Form::parse(&[name]), machine);
        assert_eq!(machine.clone().machines(), [machine]);
    }
}

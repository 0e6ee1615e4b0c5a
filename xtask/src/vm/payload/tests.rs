//! What is read of cargo and of the command line.

use super::{Form, Program, programs};

#[test]
fn programs_are_read_from_cargos_messages() {
    let messages = r#"{"reason":"compiler-artifact","target":{"test":true},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","target":{"test":true},"profile":{"opt_level":"0","test":true},"features":[],"executable":"/t/deps/sandbox-1","fresh":true}
{"reason":"compiler-artifact","target":{"test":true},"profile":{"opt_level":"0","test":false},"features":[],"executable":"/t/measure","fresh":true}
{"reason":"build-finished","success":true}"#;
    let program = |path: &str, is_test| Program {
        path: path.into(),
        is_test,
    };
    assert_eq!(
        programs(messages),
        [
            program("/t/deps/sandbox-1", true),
            program("/t/measure", false)
        ]
    );
}

#[test]
fn words_choose_the_form() {
    assert_eq!(Form::parse(&[]), Form::Whole);
    assert_eq!(Form::parse(&["short"]), Form::Short);
    assert_eq!(Form::parse(&["overbook"]), Form::Overbook);
    assert_eq!(
        Form::parse(&["disk", "limits"]),
        Form::Chosen(vec!["disk".to_owned(), "limits".to_owned()])
    );
}

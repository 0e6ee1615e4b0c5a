#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn times_have_a_unit() {
    let table = [
        ("0s", 0),
        ("90s", 90),
        ("10m", 600),
        ("36h", 129_600),
        ("7d", 604_800),
    ];
    for (text, seconds) in table {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for wrong in [
        "",
        "7",
        "d",
        "-1s",
        "1.5h",
        "1w",
        "99999999999999999999s",
        "9999999999999999d",
    ] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn sizes_are_quantities() {
    assert_eq!(bytes("0"), Ok(0));
    assert_eq!(bytes("10Gi"), Ok(10 << 30));
    assert!(bytes("much").unwrap_err().contains("write 10Gi"));
}

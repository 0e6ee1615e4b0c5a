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

#[test]
fn rates_are_bits_a_second() {
    assert_eq!(rate("64k"), Ok(64_000));
    assert_eq!(rate("1.5G"), Ok(1_500_000_000));
    for wrong in ["", "50Mbit", "fast", "-1M", "1G/200M"] {
        let error = rate(wrong).unwrap_err();
        assert!(error.contains("bits a second, as 50M"), "{wrong}: {error}");
    }
    // A unit that means thousandths, and a number without one.
    for little in ["50m", "0", "1000"] {
        let error = rate(little).unwrap_err();
        assert!(error.contains("less than 64k"), "{little}: {error}");
    }
}

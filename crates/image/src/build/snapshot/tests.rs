//! Records of pax.
use super::*;

#[test]
fn a_record_counts_its_own_length() {
    for length in [1, 80, 93, 94, 95, 96, 984, 985, 990, 9980] {
        let mut bytes = Vec::new();
        record(&mut bytes, b"path", &vec![b'x'; length]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        let (stated, _) = text.split_once(' ').unwrap();
        assert_eq!(stated.parse::<usize>().unwrap(), bytes.len());
    }
}

#[test]
fn times_before_1970_count_backwards() {
    for (time, text) in [
        ((5, 0), "5"),
        ((5, 500_000_000), "5.5"),
        ((-1, 500_000_000), "-0.5"),
        ((-3, 250_000_000), "-2.75"),
    ] {
        assert_eq!(decimal(time.0, time.1), text);
    }
}

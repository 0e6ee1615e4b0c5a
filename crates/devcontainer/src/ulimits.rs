//! Limits of processes (setrlimit(2)), by the names that engines have for them.

use std::collections::BTreeMap;

/// Soft and hard limit by name; -1 is none.
pub type Ulimits = BTreeMap<String, (i64, i64)>;

/// Names of limits that are taken.
const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Why a limit is not taken; None when it is.
pub(crate) fn refusal(name: &str, (soft, hard): (i64, i64)) -> Option<String> {
    if !NAMES.contains(&name) {
        return Some(format!(
            "has the limit {name:?}; there are {}",
            NAMES.join(", ")
        ));
    }
    if soft < -1 || hard < -1 || hard >= 0 && (soft > hard || soft == -1) {
        return Some(format!(
            "has the limits {soft} and {hard} of {name}; write -1 for none, and no more for the soft one than for the hard one"
        ));
    }
    None
}

/// `NAME=SOFT[:HARD]`, as engines take it on their command line.
pub(crate) fn parse(text: &str) -> Result<(String, (i64, i64)), String> {
    let wrong = || format!("is {text:?}; write NAME=SOFT or NAME=SOFT:HARD");
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    let limits = (number(soft)?, number(hard)?);
    match refusal(name, limits) {
        Some(why) => Err(why),
        None => Ok((name.to_owned(), limits)),
    }
}

#[cfg(test)]
mod tests {
    //! What is a limit.
    use super::*;

    #[test]
    fn limits_are_read_as_engines_write_them() {
        let of = |text: &str| parse(text).map(|(name, (soft, hard))| (name, soft, hard));
        let good = |name: &str, soft, hard| Ok((name.to_owned(), soft, hard));
        assert_eq!(of("nofile=1024"), good("nofile", 1024, 1024));
        assert_eq!(of("nofile=1024:2048"), good("nofile", 1024, 2048));
        assert_eq!(of("memlock=-1"), good("memlock", -1, -1));
        assert_eq!(of("core=0:-1"), good("core", 0, -1));
        assert_eq!(of("cpu=10"), good("cpu", 10, 10));
        assert_eq!(of("rttime=1:2"), good("rttime", 1, 2));
        for wrong in [
            "",
            "nofile",
            "nofile=",
            "nofile=a",
            "nofile=2:1",
            "nofile=-1:5",
            "nofile=-2",
            "files=3",
            "nofile=1:2:3",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}

//! Cases that cannot pass yet, each with its reason. They count as skipped; the environment
//! variable `BOATYARD_PENDING` runs them all the same.

const PENDING: &[(&str, &str)] = &[];

/// Why a case cannot pass yet.
pub(crate) fn reason(name: &str) -> Option<&'static str> {
    let found = PENDING.iter().find(|(pending, _)| *pending == name);
    found.map(|(_, reason)| *reason)
}

#[test]
fn every_row_is_a_case() {
    let names = [crate::case::names("given"), crate::case::names("more")].concat();
    for (name, _) in PENDING {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}

use super::suite;

#[test]
fn only_debian_has_debians_backports() {
    let debian = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
    assert_eq!(suite(debian), Some("bookworm"));
    assert_eq!(suite("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
    assert_eq!(suite("ID=debian\n"), None);
}

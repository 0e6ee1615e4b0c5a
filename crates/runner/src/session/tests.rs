//! A table of paths.

use super::joined;

#[test]
fn what_the_image_has_in_its_path_stays_in_a_login_shells() {
    for (shell, image, root, expected) in [
        (
            "/usr/bin:/bin",
            "/opt/a/bin:/usr/bin:/bin",
            false,
            "/opt/a/bin:/usr/bin:/bin",
        ),
        (
            "/usr/bin:/bin",
            "/usr/bin:/opt/x:/bin:/opt/y",
            false,
            "/usr/bin:/opt/x:/bin:/opt/y",
        ),
        ("/h/bin:/bin", "/usr/sbin:/a:/bin", false, "/a:/h/bin:/bin"),
        (
            "/h/bin:/bin",
            "/usr/sbin:/a:/bin",
            true,
            "/usr/sbin:/a:/h/bin:/bin",
        ),
        ("/bin", "/bin", false, "/bin"),
    ] {
        assert_eq!(joined(shell, image, root), expected, "{shell} and {image}");
    }
}

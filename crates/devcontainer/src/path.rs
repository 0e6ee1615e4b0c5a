//! PATH of a session: what the user's shell makes of it, and what the environment has besides.
//!
//! A distribution's `/etc/profile` sets PATH anew, and with it what an image, a Feature or
//! `containerEnv` added would be lost to every login shell.

/// The shell's PATH with what only the environment's has, each before what follows it there;
/// folders of the administrator's programs only for root.
pub fn merge_path(shell: &str, environment: &str, root: bool) -> String {
    let mut merged: Vec<&str> = shell.split(':').collect();
    let mut place = 0;
    for folder in environment.split(':') {
        match merged.iter().position(|known| *known == folder) {
            Some(found) => place = found + 1,
            None if root || !folder.split('/').any(|part| part == "sbin") => {
                merged.insert(place, folder);
                place += 1;
            }
            None => {}
        }
    }
    merged.join(":")
}

#[cfg(test)]
mod tests {
    //! What is kept, and where.
    use super::*;

    #[test]
    fn what_only_the_environment_has_is_kept_in_its_place() {
        for (shell, environment, root, merged) in [
            ("/bin", "/opt/a:/bin:/opt/b", true, "/opt/a:/bin:/opt/b"),
            ("/a:/bin", "/bin:/c", true, "/a:/bin:/c"),
            ("/bin", "/usr/sbin:/bin", false, "/bin"),
            ("/bin", "/usr/sbin:/bin", true, "/usr/sbin:/bin"),
            ("/bin", "/bin", false, "/bin"),
        ] {
            assert_eq!(merge_path(shell, environment, root), merged);
        }
    }
}

//! Dotfiles: the owner's repository of personal settings, installed once.
//!
//! One script run by the environment's shell as the remote user, because git, keys and files are all
//! inside. That it was done is in the runner's record; a repository that is there already is used
//! as it is. Failing costs the dotfiles and nothing else.

use boatyard_link::lifecycle::Dotfiles;

/// Arguments: repository, target, program to run or empty.
const SCRIPT: &str = r#"
repository=$1 target=$2 install=$3
case $target in
"~") target=$HOME ;;
"~/"*) target=$HOME/${target#"~/"} ;;
esac
command -v git >/dev/null 2>&1 || { echo "git is not installed in the environment, and dotfiles are cloned with it"; exit 127; }
[ -e "$target" ] || git clone -- "$repository" "$target" || exit
cd "$target" || exit
if [ -n "$install" ]; then
    case $install in
    /*) ;;
    *) [ ! -f "./$install" ] || install=./$install ;;
    esac
    [ -f "$install" ] || { echo "there is no $install in $target"; exit 126; }
    [ -x "$install" ] || chmod +x "$install" || exit
    echo "running $install in $target"
    exec "$install"
fi
for name in install.sh install bootstrap.sh bootstrap script/bootstrap setup.sh setup script/setup; do
    [ -f "$name" ] || continue
    [ -x "$name" ] || chmod +x "$name" || exit
    echo "running $name in $target"
    exec "./$name"
done
for name in .[!.]* ..?*; do
    [ -e "$name" ] || [ -L "$name" ] || continue
    [ "$name" != .git ] || continue
    echo "linking $name"
    ln -sf "$PWD/$name" "$HOME/" || exit
done
"#;

/// The command that installs them.
pub(crate) fn command(dotfiles: &Dotfiles) -> Vec<String> {
    let target = dotfiles.target_path.as_deref().unwrap_or("~/dotfiles");
    let install = dotfiles.install_command.as_deref().unwrap_or_default();
    let repository = address(&dotfiles.repository);
    [
        "/bin/sh",
        "-c",
        SCRIPT,
        "dotfiles",
        &repository,
        target,
        install,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// `owner/name` is GitHub's; a URL or a path is what it says.
fn address(repository: &str) -> String {
    let path = ["/", "./", "../"]
        .iter()
        .any(|way| repository.starts_with(way));
    if repository.contains(':') || path {
        repository.to_owned()
    } else {
        format!("https://github.com/{repository}.git")
    }
}

#[cfg(test)]
mod tests {
    //! What a repository's name means.
    use super::*;

    #[test]
    fn short_names_are_githubs_and_others_stay() {
        for (given, meant) in [
            ("a/b", "https://github.com/a/b.git"),
            ("https://example.org/x", "https://example.org/x"),
            ("git@example.org:x", "git@example.org:x"),
            ("/workspaces/dot/.git", "/workspaces/dot/.git"),
            ("./dot", "./dot"),
        ] {
            assert_eq!(address(given), meant, "{given}");
        }
    }
}

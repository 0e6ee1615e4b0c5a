//! A folder as one of the host's users sees it.

use crate::world::World;
use boatyard_sandbox::spec::User;
use boatyard_sandbox::view::Kind;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const NOBODY: User = User {
    uid: 1000,
    gid: 1000,
};
const ROOT: User = User { uid: 0, gid: 0 };

fn folder(world: &World) -> std::path::PathBuf {
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(world.base.path(), open).unwrap();
    let root = world.base.path().join("context");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(root.join("open"), "open").unwrap();
    std::fs::write(root.join("secret"), "secret").unwrap();
    std::fs::set_permissions(root.join("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink("/etc/shadow", root.join("out")).unwrap();
    symlink("../open", root.join("sub/link")).unwrap();
    root
}

#[test]
fn a_user_sees_what_they_may_and_no_more() {
    let world = World::new();
    let root = folder(&world);
    let view = world.sandboxes.view(NOBODY, &root).unwrap();
    let mut names: Vec<_> = view
        .list(Path::new(""))
        .unwrap()
        .into_iter()
        .map(|(name, _)| name.into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["open", "out", "secret", "sub"]);
    let mut text = String::new();
    let mut file = view.open(Path::new("sub/link")).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "open");
    let refused = view.open(Path::new("secret")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    // The same file opens for root: it was the credentials that refused.
    let own = world.sandboxes.view(ROOT, &root).unwrap();
    own.open(Path::new("secret")).unwrap();
}

#[test]
fn links_lead_nowhere_outside() {
    let world = World::new();
    let root = folder(&world);
    let view = world.sandboxes.view(ROOT, &root).unwrap();
    let missing = view.open(Path::new("out")).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(view.read_link(Path::new("out")).unwrap(), "/etc/shadow");
    assert!(view.stat(Path::new("out"), true).unwrap().is_none());
    let link = view.stat(Path::new("out"), false).unwrap().unwrap();
    assert_eq!(link.kind, Kind::Symlink);
    let above = view.open(Path::new("../../../../etc/passwd")).unwrap_err();
    assert_eq!(above.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_folder_closed_to_the_user_is_no_view() {
    let world = World::new();
    let root = folder(&world);
    let closed = root.join("closed");
    std::fs::create_dir_all(closed.join("inner")).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let error = world
        .sandboxes
        .view(NOBODY, &closed.join("inner"))
        .unwrap_err();
    assert!(
        error.to_string().contains("1000") && format!("{error:?}").contains("ermission"),
        "{error:?}"
    );
}

#[test]
fn a_dropped_view_leaves_no_process() {
    let world = World::new();
    let root = folder(&world);
    let view = world.sandboxes.view(NOBODY, &root).unwrap();
    let pid = view.process_id().unwrap();
    drop(view);
    let deadline = std::time::Instant::now() + crate::world::DEADLINE;
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(std::time::Instant::now() < deadline, "it lives on");
        std::thread::yield_now();
    }
}

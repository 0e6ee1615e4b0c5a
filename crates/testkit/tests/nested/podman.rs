//! Podman and buildah, as root and as a user without privileges.

use super::{RETRY, environment, root, user};

const QUIET: &str = "export PODMAN_IGNORE_CGROUPSV1_WARNING=1\n";
const SCRIPT: &str = "podman import -q box.tar localhost/box > /dev/null
mkdir ~/context; printf 'FROM localhost/box\\nRUN echo built > /made && chown 5:6 /made && rm -r /var\\nCMD stat -c %%u:%%g /made; ls -d /var || true\\n' > ~/context/Dockerfile
podman build -q -t built ~/context > /dev/null
podman run --rm built 2>/dev/null
podman run -d --name web -p 8085:80 localhost/box sh -c 'mkdir /www; echo served > /www/index.html; exec busybox httpd -f -p 80 -h /www' > /dev/null
retry busybox wget -qO- http://127.0.0.1:8085/
podman exec web cat /www/index.html
podman rm -f -t 0 web > /dev/null
";

#[test]
fn podman_and_buildah_work_as_root() {
    let daemon = environment();
    let seen = root(&daemon, &format!("{QUIET}{RETRY}{SCRIPT}"));
    assert_eq!(seen, "5:6\nserved\nserved\n");
    let store = root(
        &daemon,
        "podman info --format '{{.Store.GraphDriverName}}' 2>/dev/null",
    );
    assert_eq!(store, "overlay\n");
    let built = root(
        &daemon,
        "c=$(buildah from localhost/box); buildah run $c -- sh -c 'echo made > /made'; buildah commit -q $c localhost/made > /dev/null
         buildah bud -q -t again ~/context > /dev/null; podman run --rm localhost/made cat /made 2>/dev/null",
    );
    assert_eq!(built, "made\n");
}

#[test]
fn podman_works_without_root() {
    let daemon = environment();
    let run = "export XDG_RUNTIME_DIR=$(mktemp -d)\n";
    let seen = user(&daemon, &format!("{run}{QUIET}{RETRY}{SCRIPT}"));
    assert_eq!(seen, "5:6\nserved\nserved\n");
    // Its ids are the user's and the subordinate ones; no layer is copied whole.
    let seen = user(
        &daemon,
        &format!("{run}{QUIET}podman run --rm localhost/box sh -c 'cat /proc/self/uid_map | tr -s \" \"; id -u'
            podman info --format '{{{{.Store.GraphDriverName}}}}'; buildah unshare id -u"),
    );
    assert_eq!(seen, " 0 1000 1\n 1 100000 65536\n0\noverlay\n0\n");
}

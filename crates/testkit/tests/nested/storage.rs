//! File systems and namespaces a developer makes inside.

use super::{RETRY, environment, root, user};

#[test]
fn fuse_file_systems_are_mounted_by_root_and_by_users() {
    let daemon = environment();
    let seen = root(
        &daemon,
        &format!("{RETRY} mkdir -p /tmp/from /tmp/to /tmp/up /tmp/work /run/sshd; echo x > /tmp/from/file
            bindfs /tmp/from /tmp/to; cat /tmp/to/file; fusermount3 -u /tmp/to
            ssh-keygen -A > /dev/null; mkdir -p -m 700 ~/.ssh; ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys
            /usr/sbin/sshd -p 2222
            retry sshfs -p 2222 -o StrictHostKeyChecking=no localhost:/tmp/from /tmp/to; cat /tmp/to/file; umount /tmp/to
            fuse-overlayfs -o lowerdir=/tmp/from,upperdir=/tmp/up,workdir=/tmp/work /tmp/to 2>/dev/null
            rm /tmp/to/file; echo y > /tmp/to/new; ls /tmp/to; umount /tmp/to; ls /tmp/from"),
    );
    assert_eq!(seen, "x\nx\nnew\nfile\n");
    let seen = user(
        &daemon,
        "mkdir ~/from ~/to; echo x > ~/from/file; bindfs --no-allow-other ~/from ~/to; cat ~/to/file; fusermount3 -u ~/to; ls ~/to",
    );
    assert_eq!(seen, "x\n");
}

#[test]
fn namespaces_nest_and_file_systems_are_mounted_in_each() {
    let daemon = environment();
    let namespaces = "unshare --user --map-root-user --mount --pid --fork --net --uts --ipc --cgroup --time --mount-proc sh -c";
    // Three deep, from a user without privileges: in each a process is the first and root.
    let script = format!(
        "{namespaces} 'echo $$; {namespaces} \"echo \\$\\$; id -u; mount -t tmpfs none /mnt; hostname nested; hostname; ls /proc | grep -c ^[0-9]\"'"
    );
    let seen = user(&daemon, &script);
    assert!(seen.starts_with("1\n1\n0\nnested\n"), "{seen}");
    let subordinate = user(
        &daemon,
        "unshare --map-auto --map-root-user sh -c 'cd $(mktemp -d); touch a; chown 1000:2000 a; stat -c %u:%g a'",
    );
    assert_eq!(subordinate, "1000:2000\n");
    let seen = root(
        &daemon,
        "cd /mnt; mkdir t o l p b s d; echo low > l/f
         mount -t tmpfs none t; mkdir t/u t/w; mount -t overlay none -o lowerdir=l,upperdir=t/u,workdir=t/w o; echo up > o/f; cat o/f l/f
         mkdir /var/lib/docker/u /var/lib/docker/w; mount -t overlay none -o userxattr,lowerdir=l,upperdir=/var/lib/docker/u,workdir=/var/lib/docker/w o; rm o/f; cat l/f
         mount --bind /etc b; mount -o remount,bind,ro b; touch b/x 2>/dev/null || echo read-only
         mount -t proc none p; test -e p/self/status; mount -t sysfs none s; test -e s/class/net/lo; mount -t devpts none d; mount -t mqueue none d; mount -t binfmt_misc none d
         findmnt -no PROPAGATION /; umount -R b p s d o t; cat /etc/mtab | head -1 | cut -d' ' -f2",
    );
    assert_eq!(seen, "up\nlow\nlow\nread-only\nshared\n/\n");
}

/// What `notify` of the sandbox does, and does for nobody who could not do it.
#[test]
fn remounts_that_forget_locked_flags_keep_them() {
    let daemon = environment();
    let seen = root(
        &daemon,
        "cd /mnt; mkdir b c; mount --bind /etc b; options() { findmnt -no VFS-OPTIONS $1 | tr , '\\n' | grep -x -e ro -e rw -e nodev -e nosuid | paste -sd,; }
         busybox mount -o remount,bind,ro none b; options b; touch b/x 2>/dev/null || echo read-only
         busybox mount -o remount,bind,ro,nosuid none /mnt/b; options b; busybox mount -o remount,bind,dev none /mnt/b 2>/dev/null || echo locked
         busybox mount -o remount,bind,ro none /mnt 2>/dev/null || echo no mount; { busybox mount -o remount,bind,ro none nowhere 2>&1 || true; } | grep -o 'No such file.*'
         mount -t tmpfs none c; busybox mount -o remount,bind,ro none c; options c; umount b c",
    );
    assert_eq!(
        seen,
        "ro,nodev\nread-only\nro,nosuid,nodev\nlocked\nno mount\nNo such file or directory\nro\n"
    );
    // Who has no power over the mounts gets none, and who has it over own ones only over those.
    let seen = user(
        &daemon,
        "busybox mount -o remount,bind,ro none / 2>/dev/null || echo refused
         busybox mount -o remount,bind,ro none /workspaces/n 2>/dev/null || echo refused; touch /workspaces/n/writable
         unshare --user --map-root-user --mount sh -c 'busybox mount -o remount,bind,ro none /workspaces/n; touch /workspaces/n/x 2>/dev/null || echo read-only'
         touch /workspaces/n/y; unshare --user --map-root-user sh -c 'busybox mount -o remount,bind,ro none /workspaces/n 2>/dev/null || echo refused'",
    );
    assert_eq!(seen, "refused\nrefused\nread-only\nrefused\n");
    // A flood of them and callers that are killed stop nobody else.
    let seen = user(
        &daemon,
        "sudo sh -c 'mount --bind /etc /mnt; for i in 1 2 3 4; do (for j in $(seq 40); do timeout -s KILL 0.01 busybox mount -o remount,bind,ro none /mnt; done) & done; wait' 2>/dev/null
         getent hosts localhost > /dev/null; sudo busybox mount -o remount,bind,ro none /mnt; echo done",
    );
    assert_eq!(seen, "done\n");
}

//! The image of tests that run other engines inside an environment: Debian with Docker, Podman and
//! what else a developer would try that needs the kernel's cooperation.
//!
//! Owns the list of packages and the developer, who may sudo and has subordinate ids. It is made
//! once per host and kept as `development` keeps its own.

use crate::Daemon;
use crate::amend::User;
use crate::development::{Recipe, give, kept};

/// Its name.
pub const IMAGE: &str = "localhost/engines:latest";
/// Its user beside root, who may become root by sudo.
pub const USER: &str = "dev";

const FROM: &str = "debian:trixie";
const PACKAGES: [&str; 33] = [
    "docker.io",
    "docker-cli",
    "docker-buildx",
    "docker-compose",
    "iptables",
    "podman",
    "buildah",
    "crun",
    "catatonit",
    "netavark",
    "aardvark-dns",
    "passt",
    "fuse-overlayfs",
    "uidmap",
    "sudo",
    "adduser",
    "strace",
    "gdb-minimal",
    "iproute2",
    "nftables",
    "tcpdump",
    "iputils-ping",
    "fuse3",
    "sshfs",
    "bindfs",
    "openssh-server",
    "openssh-client",
    "wireguard-go",
    "wireguard-tools",
    "libcap2-bin",
    "procps",
    "busybox-static",
    "socat",
];

/// Gives a daemon that does not run yet the image.
///
/// # Panics
/// When it cannot be made.
pub fn provide(daemon: &Daemon) {
    let recipe = format!("1 {FROM} {PACKAGES:?}");
    let images = kept("engines", &recipe, |folder| {
        let ids = format!("{USER}:100000:65536\n").into_bytes();
        let recipe = Recipe {
            from: FROM,
            packages: &PACKAGES,
            name: IMAGE,
            user: &User {
                name: USER,
                id: 1000,
                skeleton: &[".bashrc", ".profile"],
            },
            files: &[
                ("etc/subuid", ids.clone()),
                ("etc/subgid", ids),
                (
                    "etc/sudoers.d/developer",
                    format!("{USER} ALL=(ALL) NOPASSWD: ALL\n").into_bytes(),
                ),
            ],
        };
        recipe.make(folder, |_| {})
    });
    give(daemon, &images);
}

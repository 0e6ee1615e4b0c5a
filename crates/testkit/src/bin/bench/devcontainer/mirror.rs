//! A mirror of packages on this machine: a few of the distribution's, served by HTTP.
//!
//! It stands in a network namespace of its own, joined to the host's by a pair of interfaces:
//! neither podman's containers nor our steps would reach a port of the host alike, and both are
//! forwarded to this. The packages are fetched once and kept beside the tests' image. The
//! namespace and the interfaces go with the server's process.

use crate::{output, quiet};
use boatyard_testkit::{development, wait};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// What is installed; its dependencies are in the mirror.
pub(super) const PACKAGES: [&str; 2] = ["gcc", "libc6-dev"];
/// Of the range for benchmarks of networks (RFC 2544).
const HOST: &str = "198.18.77.1";
const ADDRESS: &str = "198.18.77.2";

pub(super) struct Mirror(Child);

impl Mirror {
    pub(super) fn start() -> Self {
        let folder = packages();
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c"])
            .arg(format!(
                "until ip address add {ADDRESS}/30 dev mirror; do sleep 0.05; done 2>/dev/null
                 ip link set mirror up && ip route add default via {HOST} &&
                 exec busybox httpd -f -p {ADDRESS}:80 -h \"$0\""
            ))
            .arg(&folder)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let own = Self(child);
        let outside = format!("bybench{}", own.0.id() % 0xffff);
        let namespace = format!("/proc/{}/ns/net", own.0.id());
        let here = std::fs::read_link("/proc/self/ns/net").unwrap();
        wait::until("the mirror's namespace", || {
            (std::fs::read_link(&namespace).ok()? != here).then_some(())
        });
        let pid = own.0.id().to_string();
        let ip = |arguments: &[&str]| quiet(Command::new("ip").args(arguments));
        ip(&[
            "link", "add", &outside, "type", "veth", "peer", "name", "mirror", "netns", &pid,
        ]);
        ip(&["address", "add", &format!("{HOST}/30"), "dev", &outside]);
        ip(&["link", "set", &outside, "up"]);
        wait::until("the mirror", || {
            std::net::TcpStream::connect((ADDRESS, 80)).ok().map(drop)
        });
        own
    }

    /// The line of `sources.list`.
    pub(super) fn source(&self) -> String {
        format!("deb [trusted=yes] http://{ADDRESS}/ ./\n")
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of the packages and their list.
fn packages() -> PathBuf {
    let (cache, _lock) = development::cache("mirror.lock");
    let kept = cache.join("mirror");
    if kept.exists() {
        return kept;
    }
    let making = tempfile::Builder::new().tempdir_in(&cache).unwrap();
    let folder = making.path().join("mirror");
    std::fs::create_dir_all(folder.join("partial")).unwrap();
    std::fs::write(making.path().join("status"), "").unwrap();
    // Of a system that has nothing: every dependency is fetched.
    output(
        Command::new("apt-get")
            .args(["-qq", "--yes", "--no-install-recommends", "--download-only"])
            .arg("-o")
            .arg(format!(
                "Dir::State::status={}/status",
                making.path().display()
            ))
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", folder.display()))
            .arg("install")
            .args(PACKAGES),
    );
    let _ = std::fs::remove_file(folder.join("lock"));
    std::fs::remove_dir_all(folder.join("partial")).unwrap();
    let mut list = String::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        // Colons of epochs would have to be written otherwise in an address.
        let name = format!("{}.deb", hex::encode(&Sha256::digest(&bytes)[..8]));
        let fields = output(Command::new("dpkg-deb").arg("--field").arg(&path));
        let (size, sum) = (bytes.len(), hex::encode(Sha256::digest(&bytes)));
        let fields = fields.trim_end();
        writeln!(
            list,
            "{fields}\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n"
        )
        .unwrap();
        std::fs::rename(&path, folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("Packages"), list).unwrap();
    std::fs::rename(&folder, &kept).unwrap();
    kept
}

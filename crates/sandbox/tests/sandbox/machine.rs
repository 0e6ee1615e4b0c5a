//! Network namespaces that stand for machines, and what is done in them.

use rustix::fs::{Mode, OFlags};
use rustix::thread::LinkNameSpaceType;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A network namespace that stands for a machine, removed when dropped.
pub(crate) struct Machine(pub(crate) String);

impl Machine {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("by-{name}-{}-{number}", std::process::id());
        command("ip", &["netns", "add", &name]);
        let machine = Self(name);
        machine.run(&["ip", "link", "set", "lo", "up"]);
        machine
    }

    pub(crate) fn run(&self, words: &[&str]) -> String {
        command("ip", &[&["netns", "exec", &self.0], words].concat())
    }

    /// Does something in its network.
    pub(crate) fn within<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        at(Path::new("/run/netns").join(&self.0).as_path(), act)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip")
            .args(["netns", "delete", &self.0])
            .status();
    }
}

pub(crate) fn command(program: &str, words: &[&str]) -> String {
    let output = std::process::Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{program} (needed by this test): {error}"));
    assert!(
        output.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Does something in the network of a process.
pub(crate) fn inside<T: Send + 'static>(pid: u32, act: impl FnOnce() -> T + Send + 'static) -> T {
    at(Path::new(&format!("/proc/{pid}/ns/net")), act)
}

fn at<T: Send + 'static>(namespace: &Path, act: impl FnOnce() -> T + Send + 'static) -> T {
    let network = rustix::fs::open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let network = network.unwrap();
    let thread = std::thread::spawn(move || {
        use std::os::fd::AsFd;
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(network.as_fd(), kind).unwrap();
        act()
    });
    thread.join().unwrap()
}

/// Whether this process has a network of its own; otherwise runs the test of this name again in one,
/// to its end.
pub(crate) fn in_own_network(test: &str) -> bool {
    const MARK: &str = "BOATYARD_TEST_NETWORK";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let host = Machine::new("host");
    let output = std::process::Command::new("ip")
        .args(["netns", "exec", &host.0])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // What it was to tell, and whether all of it was tried.
    for line in said.lines() {
        let tells = line.contains("answers: ") || line.starts_with("refused; ");
        if tells || line.starts_with("skipped: ") {
            println!("{line}");
        }
    }
    false
}

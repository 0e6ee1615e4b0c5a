//! What the host has that an attack may be after, gone with the scene.

use crate::scene::{Scene, probe};
use boatyard_sandbox::spec::{Mount, MountIds, MountSource};
use std::collections::BTreeSet;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// Does something when the scene is left.
struct Finally(Option<Box<dyn FnOnce()>>);

impl Drop for Finally {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Scene {
    /// Done when the scene is left.
    pub(crate) fn finally(&mut self, act: impl FnOnce() + 'static) {
        self.kept.push(Box::new(Finally(Some(Box::new(act)))));
    }

    /// A process of the host's root, `{victim}`.
    pub(crate) fn victim(&mut self) {
        self.victim_as(0);
    }

    /// A process of the host's with these ids, `{victim}`.
    pub(crate) fn victim_as(&mut self, id: u32) {
        let child = Command::new("/bin/busybox")
            .args(["sleep", "1000"])
            .env("SECRET", "of the host")
            .uid(id)
            .gid(id)
            .spawn()
            .unwrap();
        self.say("victim", child.id());
        self.kept.push(Box::new(Victim(child)));
    }

    /// Whether that has ended, or will as soon as it gets a processor.
    pub(crate) fn victim_ended(&self) -> bool {
        let status = format!("/proc/{}/status", self.text("{victim}"));
        let Ok(status) = std::fs::read_to_string(status) else {
            return true;
        };
        let mut pending = status
            .lines()
            .filter_map(|line| line.strip_prefix("SigPnd:\t"));
        let is_killed =
            pending.any(|signals| u64::from_str_radix(signals, 16).unwrap() & 0x100 != 0);
        is_killed || status.contains("State:\tZ")
    }

    /// A file of the host's that everybody may read, by its path there: `{secret}`.
    pub(crate) fn secret(&mut self) -> PathBuf {
        let secret = self.folder("elsewhere").join("secret");
        std::fs::write(&secret, "secret of the host").unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.world.base.path(), open).unwrap();
        self.say("secret", secret.display());
        secret
    }

    /// A folder of the host's, mounted inside with the environment's ids.
    pub(crate) fn mount(&mut self, name: &str, target: &str, read_only: bool) -> PathBuf {
        let path = self.folder(name);
        self.attacker.mounts.push(Mount {
            source: MountSource::Host {
                path: path.clone(),
                ids: MountIds::Unshifted,
                open_as: None,
            },
            target: target.into(),
            read_only,
        });
        path
    }

    /// The same, of a folder whose mounts the host passes on and takes over, with a folder `sub`.
    pub(crate) fn mount_shared(&mut self, name: &str, target: &str) -> PathBuf {
        use rustix::mount::MountPropagationFlags;
        let path = self.mount(name, target, false);
        std::fs::create_dir(path.join("sub")).unwrap();
        rustix::mount::mount_bind(&path, &path).unwrap();
        rustix::mount::mount_change(&path, MountPropagationFlags::SHARED).unwrap();
        let base = self.world.base.path().to_path_buf();
        self.finally(move || unmount_below(&base));
        path
    }

    /// Host processes of the attacker and the neighbour: their inits.
    pub(crate) fn inits(&self) -> [u32; 2] {
        [&self.attacker, &self.neighbour].map(|spec| {
            match self.world.sandboxes.observe(&spec.id, &spec.state).unwrap() {
                boatyard_sandbox::Observed::Running { init_pid, .. } => init_pid,
                other => panic!("{}: {other:?}", spec.id),
            }
        })
    }

    /// A listening socket without a file, `{socket}`.
    pub(crate) fn abstract_socket(&mut self) {
        let name = self.world.options.cgroup_root.clone();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        self.kept
            .push(Box::new(UnixListener::bind_addr(&address).unwrap()));
        self.say("socket", name);
    }

    /// Something of System V's for everybody, by `{key}`: `shm`, `sem` or `msg`.
    pub(crate) fn system_v(&mut self, kind: &str) {
        let key = 0x6000_0000 + (std::process::id() % 0x10_0000) * 16 + self.world.number % 16;
        let key = key.to_string();
        // IPC_CREAT | IPC_EXCL | 0666
        let get = format!("{kind}get");
        let flags = "1974";
        let words: &[&str] = match kind {
            "shm" => &["call", &get, &key, "4096", flags],
            "sem" => &["call", &get, &key, "1", flags],
            _ => &["call", &get, &key, flags],
        };
        assert!(probe(words).starts_with("got"), "{kind}");
        let (get, control) = (get.clone(), format!("{kind}ctl"));
        self.say("key", &key);
        self.finally(move || {
            // IPC_RMID
            let words: &[&str] = match kind_of(&get) {
                "shm" => &[
                    "call", "shmget", &key, "0", "0", ",", &control, "%", "0", "0",
                ],
                "sem" => &[
                    "call", "semget", &key, "0", "0", ",", &control, "%", "0", "0",
                ],
                _ => &["call", "msgget", &key, "0", ",", &control, "%", "0", "0"],
            };
            probe(words);
        });
    }

    /// A POSIX message queue for everybody, `{queue}`.
    pub(crate) fn message_queue(&mut self) {
        let name = self.world.options.cgroup_root.clone();
        let named = format!("s:{name}");
        // O_CREAT | O_EXCL
        let made = probe(&["call", "mq_open", &named, "192", "438", "0"]);
        assert!(made.starts_with("got"), "{made}");
        self.say("queue", &name);
        self.finally(move || {
            probe(&["call", "mq_unlink", &named]);
        });
    }

    /// The attacker's group of the host's, below any hierarchy: `{id}`.
    pub(crate) fn say_group(&mut self) {
        let group = format!(
            "{}/envs/{}",
            self.world.options.cgroup_root, self.attacker.id
        );
        self.say("id", group);
    }

    /// Processor time the attacker has used.
    pub(crate) fn processor_time(&self) -> Duration {
        let nanos = |text: String| text.trim().parse().ok().map(Duration::from_nanos);
        let micros = |text: String| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))?;
            line.parse().ok().map(Duration::from_micros)
        };
        let old = self.group_files("cpuacct.usage").find_map(nanos);
        old.or_else(|| self.group_files("cpu.stat").find_map(micros))
            .unwrap()
    }

    /// What the host's files of this name say of the attacker's limits.
    pub(crate) fn group_files(&self, name: &'static str) -> impl Iterator<Item = String> {
        self.world
            .cgroups()
            .into_iter()
            .map(|top| top.join("envs/attacker"))
            .filter_map(move |group| std::fs::read_to_string(group.join(name)).ok())
    }
}

/// Ends what a test without private mounts has left in the host's namespace.
fn unmount_below(base: &Path) {
    let base = base.to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut below: Vec<&str> = points.filter(|point| point.starts_with(base)).collect();
    below.reverse();
    for point in below {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
}

/// What a process can write to: device and folder of each mount that lets it.
pub(crate) fn writable(pid: u32) -> BTreeSet<(String, String)> {
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let fields = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| fields[5].split(',').any(|option| option == "rw"))
        .map(|fields| (fields[2].to_owned(), fields[3].to_owned()))
        .collect()
}

fn kind_of(get: &str) -> &str {
    get.trim_end_matches("get")
}

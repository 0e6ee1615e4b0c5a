//! One boot of the virtual machine, by KVM where that works and by emulation elsewhere.
//!
//! Owns QEMU's command line, the time limits and the choice between KVM and emulation: /dev/kvm
//! may open and guests hang all the same (nested virtualisation), so a machine that does not come
//! up by KVM is killed, that is noted for this host's kernel, and emulation takes over.
//!
//! Read next: [`super::console`].

use super::console::Report;
use super::qemu;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a machine by KVM may take to come up; it takes two seconds.
const UP_BY_KVM: Duration = Duration::from_secs(30);
/// How long an emulated one may take, on a busy host.
const UP_EMULATED: Duration = Duration::from_secs(180);

pub(super) struct Disks {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) root: PathBuf,
    pub(super) payload: PathBuf,
    /// What keeps project quotas.
    pub(super) scratch: PathBuf,
    /// The most the last does, whatever the host's disk does.
    pub(super) speed: Option<Speed>,
}

/// What a disk does in a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    pub(super) bytes: u64,
    pub(super) requests: u64,
}

pub(super) struct Machine {
    pub(super) disks: Disks,
    /// As QEMU writes it.
    pub(super) memory: &'static str,
    /// How long everything may take: emulation is some five times slower than the host.
    pub(super) longest: Duration,
    /// Names the kernel of this host on which KVM was found not to work.
    pub(super) without_kvm: PathBuf,
}

/// The running machine; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// Boots, shows what the machine says, and answers what that means.
    pub(super) fn boot(&self) -> Result<Report> {
        let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let known = std::fs::read_to_string(&self.without_kvm).unwrap_or_default();
        let kvm = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm");
        if kvm.is_ok() && known != host {
            let report = self.boot_by("kvm", UP_BY_KVM)?;
            if report.is_up() {
                return Ok(report);
            }
            println!(
                "test-vm: the machine does not come up by KVM on this host: emulation from now on"
            );
            std::fs::write(&self.without_kvm, &host)
                .with_context(|| self.without_kvm.display().to_string())?;
        }
        self.boot_by("tcg", UP_EMULATED)
    }

    fn boot_by(&self, accelerator: &str, until_up: Duration) -> Result<Report> {
        println!("test-vm: booting ({accelerator})");
        let mut child = self
            .command(accelerator)
            .spawn()
            .with_context(|| format!("cannot start {}", qemu::PROGRAM))?;
        let output = child.stdout.take().context("the machine has no console")?;
        let machine = Running(child);
        let lines = lines(output);
        let began = Instant::now();
        let mut report = Report::default();
        loop {
            let limit = if report.is_up() {
                self.longest
            } else {
                until_up
            };
            match lines.recv_timeout(limit.saturating_sub(began.elapsed())) {
                Ok(line) => {
                    println!("{line}");
                    report.take(&line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    println!("test-vm: killed after {} s", began.elapsed().as_secs());
                    break;
                }
            }
        }
        drop(machine);
        Ok(report)
    }

    fn command(&self, accelerator: &str) -> Command {
        let mut command = Command::new(qemu::PROGRAM);
        command
            .args(["-accel", accelerator, "-M", "q35", "-smp", "2"])
            .args(["-m", self.memory])
            .args(["-cpu", "max", "-nodefaults", "-no-user-config"])
            .args(["-no-reboot", "-display", "none", "-nic", "none"])
            .args(["-serial", "stdio", "-kernel"])
            .arg(&self.disks.kernel)
            .arg("-initrd")
            .arg(&self.disks.initrd)
            // Debian's kernel counts pressure only when told to.
            .args(["-append", "console=ttyS0 panic=-1 quiet psi=1"]);
        // In this order they are /dev/vda and so on.
        for (name, path) in [
            ("root", &self.disks.root),
            ("payload", &self.disks.payload),
            ("scratch", &self.disks.scratch),
        ] {
            // Commas in a value are doubled.
            let path = path.display().to_string().replace(',', ",,");
            let mut drive = format!("if=none,id={name},format=raw,snapshot=on,file={path}");
            if let ("scratch", Some(Speed { bytes, requests })) = (name, self.disks.speed) {
                drive += &format!(
                    ",throttling.bps-total={bytes},throttling.iops-total={requests},throttling.iops-size=262144"
                );
            }
            command
                .arg("-drive")
                .arg(drive)
                .arg("-device")
                .arg(format!("virtio-blk-pci,drive={name}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

/// The console's lines, read by a thread so that they can be waited for with a limit; it ends with
/// the machine.
fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

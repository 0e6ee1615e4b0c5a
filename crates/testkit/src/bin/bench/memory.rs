//! What stays resident: proportional set sizes of the idle daemon, and of what an environment adds.

use crate::process::pss;
use boatyard_testkit::Daemon;

pub(crate) fn run() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("idle", r#"{"image": "test:latest"}"#);
    daemon.cli(&["up", &folder, "--name", "idle"]).ok();
    daemon.cli(&["exec", "idle", "--", "true"]).ok();
    println!("### Resident memory, one environment running\n");
    println!("| | PSS KiB |\n|---|---|");
    let row = |name: &str, pid: u32| println!("| {name} | {} |", pss(pid));
    row("daemon", daemon.pid());
    row("spawner", daemon.spawner().unwrap());
    for monitor in daemon.monitors() {
        row(
            "monitor of the environment",
            u32::try_from(monitor).unwrap(),
        );
    }
    for process in daemon.photo().processes {
        let pid: u32 = process.parse().unwrap();
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        row(&format!("{} in the environment", name.trim()), pid);
    }
    daemon.cli(&["rm", "--force", "idle"]).ok();
}

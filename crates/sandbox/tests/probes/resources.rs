//! Resources: bombs, and what the kernel counts by user. Each leaves the neighbour working, whose
//! answers are timed and printed.
//!
//! A bomb is as large as the limit it meets and some more, so that it does no harm without.

use crate::frame::{Need, Wall};
use crate::scene::Scene;
use boatyard_sandbox::Protection::ConsoleLimit;
use boatyard_sandbox::disk::image;
use boatyard_sandbox::spec::Root;
use std::time::{Duration, Instant};

/// The neighbour has the attacker's ids, and with them its accounts in the kernel.
const RANGE: Wall = Wall::Scene("a range of ids of its own", |scene| {
    scene.neighbour.id_base = scene.attacker.id_base;
});
const MEMORY: Wall = Wall::Scene("the limit of memory", |scene| {
    scene.attacker.limits.memory_bytes = None;
});
const TASKS: Wall = Wall::Scene("the limit of tasks", |scene| {
    scene.attacker.limits.pids = Some(MANY_TASKS);
});
const PROCESSOR: Wall = Wall::Scene("the limit of processor time", |scene| {
    scene.attacker.limits.cpu_millis = None;
});
const FILES: Wall = Wall::Scene("the limit of open files", |scene| {
    scene.attacker.nofile = Some(4000);
});

const DISK: Wall = Wall::Scene("the limit of the disk", |scene| {
    let plain = scene.world.spec("attacker", "");
    scene.attacker.root = plain.root;
});

const NAMESPACES: &str = "/proc/sys/user/max_user_namespaces";
const FEW_TASKS: u64 = 64;
/// Harmless to the machine.
const MANY_TASKS: u64 = 400;

fn limited(scene: &mut Scene) {
    scene.attacker.limits.memory_bytes = Some(32 << 20);
    scene.attacker.limits.pids = Some(FEW_TASKS);
    scene.attacker.nofile = Some(16_000);
}

/// The attacker writes to a disk of so much.
fn limited_disk(scene: &mut Scene, mebibytes: u64) {
    let (image, disk) = (
        scene.world.base.path().join("disk.img"),
        scene.folder("disk"),
    );
    image::make(&image, mebibytes << 20, None).unwrap();
    image::mount(&image, &disk).unwrap();
    let [upper, work] = ["upper", "work"].map(|part| {
        let part = disk.join(part);
        std::fs::create_dir_all(&part).unwrap();
        part
    });
    let layers = vec![scene.world.layer()];
    scene.attacker.root = Root::Overlay {
        layers,
        upper,
        work,
    };
    scene.finally(move || image::unmount(&disk).unwrap());
}

/// How a bomb of memory ends: its process is killed, perhaps init too, or is refused more.
const STOPPED: &[&str] = &[
    "killed 137",
    "ended",
    "ENOMEM",
    "ENOSPC",
    "EAGAIN",
    "EDQUOT",
];

probes! { "resources";
    /// Taking all inotify instances the kernel allows a user.
    inotify_instances {
        attack: "probe hold inotify 5000",
        refused: &["refused inotify after"],
        walls: &[RANGE],
        during: Some(|scene| neighbour_fails(scene, "probe call inotify_init1 0")),
        timed: true,
    }

    /// Taking all bytes of message queues the kernel allows a user.
    message_queue_bytes {
        attack: "probe hold queues 1000",
        refused: &["refused queues after"],
        walls: &[RANGE],
        during: Some(|scene| neighbour_fails(scene, "probe call mq_open s:mine 66 384 0")),
        timed: true,
    }

    /// Taking all large buffers of pipes the kernel allows a user.
    pipe_buffers {
        attack: "probe hold large-pipes 100",
        refused: &["refused large-pipes after"],
        walls: &[RANGE],
        during: Some(|scene| neighbour_fails(scene, "probe bomb large-pipes 4")),
        timed: true,
    }

    /// Taking all user namespaces the kernel allows a user.
    user_namespaces {
        attack: "probe hold user-namespaces 200",
        refused: &["refused user-namespaces after"],
        walls: &[RANGE],
        // It is the whole machine's.
        needs: &[Need::OwnMachine],
        prepare: |scene| {
            let before = std::fs::read(NAMESPACES).unwrap();
            std::fs::write(NAMESPACES, "100").unwrap();
            scene.finally(move || std::fs::write(NAMESPACES, before).unwrap());
        },
        during: Some(|scene| neighbour_fails(scene, "unshare -U true && echo got")),
        timed: true,
    }

    /// Filling the host's disk with files.
    disk {
        attack: "dd if=/dev/zero of=/full bs=1M count=64 2>&1 && echo got 64 MiB",
        refused: &["No space left"],
        walls: &[DISK],
        prepare: |scene| limited_disk(scene, 24),
        timed: true,
    }

    /// Taking all inodes of the host's disk.
    disk_inodes {
        attack: "probe bomb inodes 8000 /root",
        refused: &["refused inodes after"],
        walls: &[DISK],
        prepare: |scene| limited_disk(scene, 8),
        timed: true,
    }

    /// Starting processes without end.
    fork_bomb {
        attack: "sh -c 'bomb() { bomb | bomb & }; bomb' 2>/dev/null & exec probe hold inotify 0",
        refused: &["hold"],
        walls: &[TASKS],
        prepare: limited,
        during: Some(|scene| {
            let deadline = Instant::now() + Duration::from_secs(2);
            let mut most = 0;
            while Instant::now() < deadline {
                let now = scene.group_files("pids.current").map(|text| text.trim().parse::<u64>().unwrap());
                most = most.max(now.max().unwrap());
                if most > FEW_TASKS {
                    return Some(format!("{most} tasks"));
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
            None
        }),
        timed: true,
    }

    /// Starting threads until the machine has no numbers left for them.
    tasks {
        attack: "probe bomb tasks 200",
        refused: &["refused tasks after"],
        walls: &[TASKS],
        prepare: limited,
        timed: true,
    }

    /// Using all processors all of the time.
    processor_time {
        attack: "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; echo hold; sleep 1000",
        refused: &["hold"],
        walls: &[PROCESSOR],
        prepare: |scene| scene.attacker.limits.cpu_millis = Some(30),
        during: Some(|scene| {
            let before = scene.processor_time();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(2) {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            let used = (scene.processor_time() - before).as_secs_f64() / began.elapsed().as_secs_f64();
            (used > 0.07).then(|| format!("{used:.2} processors"))
        }),
        timed: true,
    }

    /// Taking all memory.
    memory {
        attack: "probe bomb memory 64 || echo killed $?",
        refused: STOPPED,
        walls: &[MEMORY],
        prepare: limited,
        timed: true,
    }

    /// Taking all memory for files in /dev/shm.
    shared_memory_files {
        attack: "probe bomb bytes 64 /dev/shm || echo killed $?",
        refused: STOPPED,
        walls: &[MEMORY],
        prepare: limited,
        timed: true,
    }

    /// Taking all memory for files in a file system of one's own.
    memory_file_systems {
        attack: "mount -t tmpfs -o size=1g mine /tmp; probe bomb bytes 64 /tmp || echo killed $?",
        refused: STOPPED,
        walls: &[MEMORY],
        prepare: limited,
        timed: true,
    }

    /// Taking all memory for files without a name.
    nameless_files {
        attack: "probe bomb memfds 64 || echo killed $?",
        refused: STOPPED,
        walls: &[MEMORY],
        prepare: limited,
        timed: true,
    }

    /// Taking the kernel's memory for inodes.
    inodes {
        attack: "probe bomb inodes 25000 /dev/shm || echo killed $?",
        refused: STOPPED,
        walls: &[MEMORY],
        prepare: |scene| scene.attacker.limits.memory_bytes = Some(16 << 20),
        timed: true,
    }

    /// Taking the kernel's memory for what nobody reads from pipes.
    full_pipes {
        attack: "probe bomb full-pipes 1000 || echo killed $?",
        refused: STOPPED,
        walls: &[MEMORY],
        prepare: limited,
        timed: true,
    }

    /// Taking the kernel's memory for what nobody reads from sockets.
    full_sockets {
        attack: "probe bomb full-sockets 400 || echo killed $?",
        refused: STOPPED,
        walls: &[MEMORY],
        prepare: limited,
        timed: true,
    }

    /// Taking the kernel's memory for mounts.
    mounts {
        attack: "probe bomb mounts 4000 /dev/shm || echo killed $?",
        refused: STOPPED,
        walls: &[MEMORY],
        // About a tenth of what a mount takes is counted.
        prepare: |scene| scene.attacker.limits.memory_bytes = Some(4 << 20),
        timed: true,
    }

    /// Taking the kernel's memory for network namespaces.
    network_namespaces {
        attack: "probe bomb network-namespaces 450 || echo killed $?",
        refused: STOPPED,
        walls: &[MEMORY],
        prepare: |scene| {
            scene.attacker.limits.memory_bytes = Some(32 << 20);
            scene.attacker.nofile = Some(4000);
        },
        timed: true,
    }

    /// Opening files without end.
    open_files {
        attack: "probe bomb files 1000",
        refused: &["refused files after"],
        walls: &[FILES],
        prepare: |scene| scene.attacker.nofile = Some(256),
        timed: true,
    }

    /// Making cgroups without end.
    groups {
        attack: "probe bomb folders 10100 /sys/fs/cgroup/nested",
        refused: &["refused folders after"],
        walls: &[Wall::Of(boatyard_sandbox::Protection::CgroupCount)],
        needs: &[Need::Cgroups(2)],
        timed: true,
    }

    /// Filling the host's disk with what it says.
    endless_output {
        attack: "probe bomb output 8 | sed s/got/made/",
        refused: &["made 8 output"],
        walls: &[Wall::Of(ConsoleLimit)],
        taken: |scene| {
            let size = |name: &str| {
                let log = std::fs::metadata(scene.attacker.state.join(name));
                log.map_or(0, |log| log.len())
            };
            let size = size("console.log") + size("console.log.1");
            (size > 2 << 20).then(|| format!("{size} bytes"))
        },
        timed: true,
    }
}

/// What the neighbour says when it does not get what it asks for.
fn neighbour_fails(scene: &Scene, script: &str) -> Option<String> {
    let said = scene.neighbour_says(script);
    (!said.contains("got")).then_some(said)
}

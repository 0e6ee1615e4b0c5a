//! The kernel's surface: calls that reach the machine itself.

use crate::frame::{Need, Wall};
use boatyard_sandbox::Protection::{Filter, NoCores, PidNamespace, UserNamespace};
use std::os::unix::fs::PermissionsExt;

const BOTH: &[Wall] = &[Wall::Of(Filter), Wall::Of(UserNamespace)];

probes! { "kernel";
    /// Making keys in keyrings, which no namespace divides.
    keyrings {
        // KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING
        attack: "probe call keyctl 0 -3 0",
        refused: &["refused keyctl: ENOSYS"],
        walls: &[Wall::Of(Filter)],
    }

    /// Catching page faults by hand, which makes races of the kernel easy to win.
    userfaultfd {
        // UFFD_USER_MODE_ONLY
        attack: "probe call userfaultfd 1",
        refused: &["refused userfaultfd: EPERM"],
        walls: &[Wall::Of(Filter)],
    }

    /// Operations in the kernel that pass by the filter.
    io_uring {
        attack: "probe call io_uring_setup 1 z:120",
        refused: &["refused io_uring_setup: EPERM"],
        walls: &[Wall::Of(Filter)],
    }

    /// Measuring the processor, and with it who else uses it.
    perf_events {
        // struct perf_event_attr: a software clock, the user's part alone.
        attack: "probe call perf_event_open \
                 x:010000007000000000000000000000000000000000000000000000000000000000000000000000006000000000000000+64 \
                 0 -1 -1 0",
        refused: &["refused perf_event_open: EPERM"],
        walls: &[Wall::Of(Filter)],
        // A paranoid kernel wants a capability too.
        beside: &[Wall::Of(UserNamespace)],
    }

    /// Programs in the kernel.
    bpf {
        // BPF_MAP_CREATE: an array of one.
        attack: "probe call bpf 0 x:02000000040000000400000001000000+104 120",
        refused: &["refused bpf: EPERM"],
        walls: &[Wall::Of(Filter)],
        beside: &[Wall::Of(UserNamespace)],
    }

    /// Booting another kernel.
    kexec {
        // More segments than there may be: judged once the caller may load one.
        attack: "probe call kexec_load 0 17 0 0 =EINVAL",
        refused: &["refused kexec_load: EPERM"],
        walls: BOTH,
        needs_to_succeed: &[Need::File("/sys/kernel/kexec_loaded")],
    }

    /// Loading a module.
    module_loading {
        // No module, which is seen once the caller may load one.
        attack: "probe call init_module z:1 0 s: =ENOEXEC",
        refused: &["refused init_module: EPERM"],
        walls: BOTH,
        needs_to_succeed: &[Need::File("/proc/modules")],
    }

    /// Unloading a module.
    module_unloading {
        attack: "probe call delete_module s:boatyard-no-such-module 0 =ENOENT",
        refused: &["refused delete_module: EPERM"],
        walls: BOTH,
        needs_to_succeed: &[Need::File("/proc/modules")],
    }

    /// Changing how fast the host's clock runs.
    clock_rate {
        // ADJ_TICK with a tick of nothing, which is judged after the right to set it.
        attack: "probe call adjtimex x:00400000+204 =EINVAL",
        refused: &["refused adjtimex: EPERM"],
        walls: BOTH,
    }

    /// Setting the host's clock and time zone.
    clock_setting {
        // A time zone a week away, which is judged after the right to set one.
        attack: "probe call settimeofday 0 x:1027000000000000 =EINVAL",
        refused: &["refused settimeofday: EPERM"],
        walls: BOTH,
    }

    /// Making the host swap to a file of the environment's.
    swapping {
        attack: "probe call swapon s:/nowhere 0 =ENOENT",
        refused: &["refused swapon: EPERM"],
        walls: BOTH,
        needs_to_succeed: &[Need::File("/proc/swaps")],
    }

    /// Switching process accounting, whose file is the host's to name.
    accounting {
        attack: "probe call acct s:/nowhere =ENOENT",
        refused: &["refused acct: EPERM"],
        walls: BOTH,
        needs_to_succeed: &[Need::File("/proc/sys/kernel/acct")],
    }

    /// Reading the host kernel's messages.
    kernel_messages {
        // SYSLOG_ACTION_SIZE_BUFFER
        attack: "probe call syslog 10 0 0",
        refused: &["refused syslog: EPERM"],
        walls: &[Wall::Of(Filter)],
        beside: &[Wall::Of(UserNamespace)],
    }

    /// Reading them from their file, where any reader takes them from all others.
    kernel_messages_file {
        attack: "probe call ioctl o:/proc/kmsg 0 0 =ENOTTY",
        refused: &["EPERM", "EACCES"],
        walls: &[Wall::Of(UserNamespace)],
    }

    /// Turning the machine off, or what its keys do.
    reboot {
        // LINUX_REBOOT_CMD_CAD_OFF: who may reboot may do that.
        attack: "probe call reboot 0xfee1dead 672274793 0 0",
        refused: &["refused reboot: EINVAL"],
        walls: &[Wall::Of(PidNamespace), Wall::Of(UserNamespace)],
        needs_to_succeed: &[Need::OwnMachine],
    }

    /// Mounting what shows or steers the kernel.
    kernel_file_systems {
        attack: "for kind in debugfs tracefs securityfs configfs bpf pstore; do \
                   grep -qw $kind /proc/filesystems && mount -t $kind x /tmp 2>&1 && echo got $kind; \
                 done; echo tried",
        refused: &["tried"],
        walls: &[Wall::Of(UserNamespace)],
    }

    /// Going before everybody else in the queue for a processor.
    negative_niceness {
        attack: "probe call setpriority 0 0 -15",
        refused: &["refused setpriority: EACCES"],
        walls: &[Wall::Of(UserNamespace)],
    }

    /// Being spared by the killer when memory runs out.
    out_of_memory_immunity {
        attack: "echo -900 > /proc/self/oom_score_adj && echo got immunity; true",
        refused: &["Permission denied"],
        walls: &[Wall::Of(UserNamespace)],
        needs_to_succeed: &[Need::Capability("CAP_SYS_RESOURCE", 24)],
    }

    /// Triggering what the system request key does.
    sysrq {
        attack: "probe trick open /proc/sysrq-trigger",
        refused: &["refused /proc/sysrq-trigger: EACCES"],
        walls: &[Wall::Of(UserNamespace)],
        needs: &[Need::File("/proc/sysrq-trigger")],
    }

    /// Reading the memory of the kernel.
    kernel_memory {
        attack: "probe trick read /proc/kcore /dev/core",
        refused: &["refused /proc/kcore: E"],
        walls: &[Wall::Of(UserNamespace)],
        needs: &[Need::File("/proc/kcore")],
    }

    /// Naming the program that the host's root runs when a process crashes.
    core_pattern {
        attack: "probe trick open /proc/sys/kernel/core_pattern",
        refused: &["refused /proc/sys/kernel/core_pattern: E"],
        walls: &[Wall::Of(UserNamespace)],
    }

    /// Naming the programs that the kernel runs as the host's root for modules and devices.
    helper_programs {
        attack: "probe trick open /proc/sys/kernel/poweroff_cmd /proc/sys/kernel/modprobe \
                 /proc/sys/kernel/hotplug /sys/kernel/uevent_helper",
        refused: &["refused /proc/sys/kernel/poweroff_cmd: E"],
        walls: &[Wall::Of(UserNamespace)],
    }

    /// Naming the program that the kernel runs as the host's root when a cgroup empties.
    release_agent {
        attack: "for agent in $(find /sys/fs/cgroup -name release_agent); do probe trick open $agent; done; \
                 mkdir /tmp/groups; \
                 mount -t cgroup -o memory,release_agent=/tmp/mine x /tmp/groups && echo got a mount; \
                 echo tried",
        refused: &["tried"],
        walls: &[
            Wall::Of(boatyard_sandbox::Protection::CgroupNamespace),
            Wall::Of(UserNamespace),
        ],
        needs_to_succeed: &[Need::Cgroups(1)],
    }

    /// Settings of the whole machine.
    settings {
        attack: "probe trick open /proc/sys/vm/drop_caches /proc/sys/vm/overcommit_memory \
                 /proc/sys/kernel/panic /proc/sys/kernel/threads-max /proc/sys/fs/file-max \
                 /proc/sys/fs/suid_dumpable /proc/sys/kernel/randomize_va_space",
        refused: &["refused /proc/sys/kernel/panic: E"],
        walls: &[Wall::Of(UserNamespace)],
    }

    /// What /sys lets be written: devices, power, memory, modules.
    sysfs {
        attack: "files=$(find /sys -xdev -type f -perm -200 ! -path '*/net/*' 2>/dev/null | head -n 400); \
                 probe trick open $files | grep ^got; echo tried",
        refused: &["tried"],
        walls: &[Wall::Of(UserNamespace)],
    }

    /// Typing into the terminal of whoever started the environment.
    terminal_input {
        // TIOCSTI
        attack: "{terminal}probe call ioctl o:/dev/tty 0x5412 s:x",
        refused: &["ENXIO"],
        walls: &[Wall::Scene("no terminal of the host's", |scene| {
            scene.say("terminal", "probe trick terminal ");
        })],
        prepare: |scene| scene.say("terminal", ""),
        needs_to_succeed: &[Need::File("/proc/sys/dev/tty/legacy_tiocsti")],
    }

    /// Getting back in a user namespace of one's own what the environment lacks.
    nested_user_namespaces {
        attack: "unshare -Urm sh -c 'mount -o remount,bind,rw /folder; \
                   echo x > /folder/mine && echo got the folder; \
                   probe call syslog 10 0 0; probe call mknod -100 s:/tmp/disk 25008 2048; \
                   probe trick open /proc/sys/kernel/core_pattern; \
                   probe call setpriority 0 0 -15'",
        refused: &["Read-only file system"],
        walls: &[Wall::Of(UserNamespace)],
        prepare: |scene| {
            scene.mount("folder", "/folder", true);
        },
    }

    /// Having the host's root run a program of the host's on what it makes of its own crashes.
    crash_handlers {
        attack: "ulimit -c unlimited; probe call prlimit64 0 4 z:16 0 >/dev/null; \
                 (sh -c 'kill -SEGV $$'); sleep 2; echo crashed",
        refused: &["crashed"],
        walls: &[Wall::Of(NoCores)],
        // The pattern is the whole machine's.
        needs: &[Need::OwnMachine],
        prepare: |scene| {
            let handler = scene.world.base.path().join("handler");
            let script = format!("#!/bin/sh\necho $1 > {}\n", handler.with_file_name("handled").display());
            std::fs::write(&handler, script).unwrap();
            let run = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&handler, run).unwrap();
            let before = std::fs::read(PATTERN).unwrap();
            std::fs::write(PATTERN, format!("|{} %P", handler.display())).unwrap();
            scene.finally(move || std::fs::write(PATTERN, before).unwrap());
        },
        taken: |scene| {
            let handled = scene.world.base.path().join("handled").exists();
            handled.then(|| "its handler".to_owned())
        },
    }
}

const PATTERN: &str = "/proc/sys/kernel/core_pattern";

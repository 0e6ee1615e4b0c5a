//! Processes: the host's and a neighbour's, and what processes share without a file.

use crate::frame::{Need, Wall};
use boatyard_sandbox::Protection::{
    CgroupNamespace, CgroupOwnership, IpcNamespace, NetNamespace, PidNamespace, UserNamespace,
};

const APART: &[Wall] = &[Wall::Of(PidNamespace), Wall::Of(UserNamespace)];

probes! { "processes";
    /// Tracing a process of the host's.
    ptrace {
        // PTRACE_SEIZE
        attack: "probe call ptrace 0x4206 {victim} 0 0",
        refused: &["refused ptrace: ESRCH"],
        walls: APART,
        prepare: crate::scene::Scene::victim,
    }

    /// Ending a process of the host's.
    signals {
        attack: "probe call kill {victim} 15",
        refused: &["refused kill: ESRCH"],
        walls: APART,
        prepare: crate::scene::Scene::victim,
    }

    /// Ending a neighbour.
    signals_to_neighbours {
        // Asks only whether it might: the neighbour is wanted afterwards.
        attack: "probe call kill {neighbour} 0",
        refused: &["refused kill: ESRCH"],
        walls: APART,
    }

    /// Ending everything there is.
    signals_to_all {
        attack: "sleep 1000 & kill -9 -1; wait $! || echo ended its own",
        refused: &["ended its own"],
        // The victim has the attacker's ids: without that it would be the whole machine.
        walls: &[Wall::Of(PidNamespace)],
        prepare: |scene| scene.victim_as(scene.attacker.id_base),
        taken: |scene| scene.victim_ended().then(|| "a process of the host's".to_owned()),
    }

    /// Taking an open file out of a process of the host's.
    pidfd {
        attack: "probe call pidfd_open {victim} 0 , pidfd_getfd % 0 0",
        refused: &["refused pidfd_open: "],
        walls: APART,
        prepare: crate::scene::Scene::victim,
    }

    /// Reading what is in the memory and the variables of a process of the host's.
    memory_of_processes {
        attack: "probe trick read /proc/{victim}/environ /proc/{victim}/auxv /proc/{victim}/maps",
        refused: &["refused /proc/{victim}/environ: ENOENT"],
        walls: APART,
        prepare: crate::scene::Scene::victim,
    }

    /// The host's files through the root of one of its processes.
    roots_of_processes {
        attack: "probe trick read /proc/{victim}/root{secret} /proc/{victim}/cwd{secret}",
        refused: &["refused /proc/{victim}/root{secret}: ENOENT"],
        walls: APART,
        prepare: |scene| {
            scene.victim();
            scene.secret();
        },
    }

    /// Entering the namespaces of a process of the host's.
    setns {
        attack: "for kind in net mnt ipc uts pid; do probe call setns o:/proc/{victim}/ns/$kind 0; done",
        refused: &["ENOENT"],
        walls: APART,
        prepare: crate::scene::Scene::victim,
    }

    /// A socket of the host's that has a name and no file.
    abstract_sockets {
        attack: "probe trick connect {socket}",
        refused: &["ECONNREFUSED"],
        walls: &[Wall::Of(NetNamespace)],
        prepare: crate::scene::Scene::abstract_socket,
    }

    /// Shared memory of the host's that everybody may use.
    shared_memory {
        attack: "probe call shmget {key} 0 0",
        refused: &["refused shmget: ENOENT"],
        walls: &[Wall::Of(IpcNamespace)],
        prepare: |scene| scene.system_v("shm"),
    }

    /// Semaphores of the host's that everybody may use.
    semaphores {
        attack: "probe call semget {key} 0 0",
        refused: &["refused semget: ENOENT"],
        walls: &[Wall::Of(IpcNamespace)],
        prepare: |scene| scene.system_v("sem"),
    }

    /// Messages of the host's that everybody may take.
    messages {
        attack: "probe call msgget {key} 0",
        refused: &["refused msgget: ENOENT"],
        walls: &[Wall::Of(IpcNamespace)],
        prepare: |scene| scene.system_v("msg"),
    }

    /// A POSIX message queue of the host's that everybody may use.
    message_queues {
        attack: "probe call mq_open s:{queue} 0 0 0",
        refused: &["refused mq_open: ENOENT"],
        walls: &[Wall::Of(IpcNamespace)],
        prepare: crate::scene::Scene::message_queue,
    }

    /// Lifting the limits of the environment.
    limits {
        attack: "for limits in $(find /sys/fs/cgroup -path '*{id}*' -name pids.max ! -path '*/inner/*') \
                   /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max; do \
                   echo 4000 > $limits; done 2>&1; echo tried; echo hold; sleep 1000",
        refused: &["tried"],
        walls: &[Wall::Of(CgroupNamespace), Wall::Of(CgroupOwnership)],
        prepare: |scene| {
            scene.attacker.limits.pids = Some(100);
            scene.say_group();
        },
        during: Some(|scene| {
            let lifted = scene.group_files("pids.max").any(|text| text.trim() == "4000");
            lifted.then(|| "its limit of tasks".to_owned())
        }),
    }

    /// Moving out of the limits, into a parent's group.
    groups_above {
        attack: "for group in $(find /sys/fs/cgroup -path '*{id}' -type d); do \
                   echo 0 > $group/cgroup.procs && echo got $group; done 2>&1; \
                 echo 0 > /sys/fs/cgroup/pids/../cgroup.procs; echo tried",
        refused: &["tried"],
        walls: &[Wall::Of(CgroupNamespace), Wall::Of(CgroupOwnership)],
        // On version 2 a group that has children takes no processes from anybody.
        needs_to_succeed: &[Need::Cgroups(1)],
        prepare: |scene| {
            scene.attacker.limits.pids = Some(100);
            scene.say_group();
        },
    }
}

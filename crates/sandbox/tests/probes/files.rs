//! Files and mounts: the host's, a neighbour's, the shared layers'.

use crate::frame::Wall;
use boatyard_sandbox::Protection::{Filter, UserNamespace};
use boatyard_sandbox::spec::{Mount, MountIds, MountSource};

probes! { "files and mounts";
    /// Opening by its handle a file of the same file system that is not in the folder given.
    file_handles {
        attack: "probe call open_by_handle_at o:/folder x:{handle} 0",
        refused: &["refused open_by_handle_at: EPERM"],
        walls: &[Wall::Of(Filter), Wall::Of(UserNamespace)],
        prepare: |scene| {
            let secret = scene.folder("elsewhere").join("secret");
            std::fs::write(&secret, "secret").unwrap();
            let handle = crate::scene::probe(&["handle", secret.to_str().unwrap()]);
            scene.say("handle", handle);
            let folder = scene.folder("folder");
            scene.attacker.mounts.push(Mount {
                source: MountSource::Host {
                    path: folder,
                    ids: MountIds::Unshifted,
                    open_as: None,
                },
                target: "/folder".into(),
                read_only: false,
            });
        },
    }
}

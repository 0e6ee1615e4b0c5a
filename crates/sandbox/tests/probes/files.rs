//! Files and mounts: the host's, a neighbour's, the shared layers'.

use crate::frame::{Need, Wall};
use crate::hosts::writable;
use crate::scene::Scene;
use boatyard_sandbox::Protection::{
    Descriptors, DeviceFilter, Filter, HiddenHost, Nodev, Nosuid, Overlay, Pivot, PrivateMounts,
    Resolution, UserNamespace,
};
use boatyard_sandbox::spec::{MountIds, MountSource, Root, User};
use rustix::fs::FileType;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PROPAGATION: &[Wall] = &[Wall::Of(PrivateMounts), Wall::Of(UserNamespace)];

/// How long the host waits for a folder before it is taken to hang.
const HANGS: Duration = Duration::from_secs(3);

probes! { "files and mounts";
    /// Opening by its handle a file of the same file system that is not in the folder given.
    file_handles {
        attack: "probe call open_by_handle_at o:/folder x:{handle} 0",
        refused: &["refused open_by_handle_at: EPERM"],
        walls: &[Wall::Of(Filter), Wall::Of(UserNamespace)],
        prepare: |scene| {
            let secret = scene.secret();
            let handle = crate::scene::probe(&["handle", secret.to_str().unwrap()]);
            scene.say("handle", handle);
            scene.mount("folder", "/folder", false);
        },
    }

    /// The host's disk, or what else it has, through device nodes that the image ships.
    image_devices {
        attack: "probe trick reach /sda /device",
        refused: &["refused /device: EACCES"],
        walls: &[Wall::Of(Nodev), Wall::Of(DeviceFilter)],
        prepare: |scene| {
            let sda = (FileType::BlockDevice, rustix::fs::makedev(8, 0));
            node(&scene.world.layer().join("sda"), sda);
            let device = scene.openable();
            node(&scene.world.layer().join("device"), device);
        },
    }

    /// Making a node of the host's disk.
    making_devices {
        attack: "probe call mknod -100 s:/dev/disk 25008 2048",
        refused: &["refused mknod: EPERM"],
        walls: &[Wall::Of(UserNamespace), Wall::Of(DeviceFilter)],
    }

    /// Mounting over a folder as the host sees it.
    mount_propagation {
        attack: "mount -t tmpfs mine /shared/sub && echo mounted inside",
        refused: &["mounted inside"],
        walls: PROPAGATION,
        prepare: |scene| {
            scene.mount_shared("shared", "/shared");
        },
        taken: |scene| {
            let sub = scene.world.base.path().join("shared/sub");
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            mounts.contains(sub.to_str().unwrap()).then(|| "a mount on the host".to_owned())
        },
    }

    /// Serving the host a file system that never answers.
    hanging_file_systems {
        attack: "probe trick fuse /shared/sub",
        refused: &["got a mount"],
        walls: PROPAGATION,
        prepare: |scene| {
            scene.mount_shared("shared", "/shared");
        },
        during: Some(|scene| {
            let mut reader = Command::new("/bin/busybox")
                .arg("ls")
                .arg(scene.world.base.path().join("shared/sub"))
                .spawn()
                .unwrap();
            let deadline = Instant::now() + HANGS;
            let hangs = loop {
                if reader.try_wait().unwrap().is_some() {
                    break false;
                }
                if Instant::now() > deadline {
                    break true;
                }
                std::thread::park_timeout(Duration::from_millis(10));
            };
            let _ = reader.kill();
            let _ = reader.wait();
            hangs.then(|| "a reader of the host's".to_owned())
        }),
    }

    /// Changing a layer that other environments share.
    shared_layers {
        attack: "echo mine > /etc/from-layer; rm -r /usr; mv /bin/true /bin/mine; echo wrote",
        refused: &["wrote"],
        walls: &[Wall::Of(Overlay)],
        taken: |scene| {
            let layer = scene.world.layer();
            let kept = std::fs::read_to_string(layer.join("etc/from-layer")).unwrap();
            let whole = kept == "layer\n" && layer.join("usr/lib").exists();
            (!whole).then(|| "the layer".to_owned())
        },
    }

    /// Forging what the overlay believes of its upper directory: redirects, opaque folders.
    overlay_attributes {
        attack: "probe call setxattr s:/tmp s:trusted.overlay.redirect s:/etc 4 0",
        // Nobody sets them on an overlay before 6.7.
        refused: &["refused setxattr: EPERM", "refused setxattr: EOPNOTSUPP"],
        walls: &[Wall::Of(UserNamespace)],
        needs_to_succeed: &[Need::Kernel(6, 7)],
    }

    /// Having a mount target made outside, by a link in a folder that two environments have.
    mount_targets {
        attack: "ln -s {outside} /folder/way; echo hold; sleep 1000",
        refused: &["hold"],
        walls: &[Wall::Of(Resolution)],
        prepare: |scene| {
            scene.mount("folder", "/folder", false);
            scene.outside();
        },
        during: Some(|scene| {
            let mut other = scene.world.spec("other", "true");
            other.id_base = scene.attacker.id_base;
            other.mounts = scene.attacker.mounts.clone();
            other.mounts.push(boatyard_sandbox::spec::Mount {
                source: MountSource::Tmpfs { size: None, mode: 0o755 },
                target: "/folder/way/new".into(),
                read_only: false,
            });
            // Whether it starts is its own affair.
            let _ = scene.world.sandboxes.start(&other);
            scene.world.sandboxes.remove(&other.id, &other.state).unwrap();
            let new = scene.world.base.path().join("outside/new");
            new.exists().then(|| "a folder of the host's".to_owned())
        }),
    }

    /// Having the host read elsewhere, by a folder that becomes a link and back while it reads.
    races_of_links {
        attack: "exec probe trick flip /folder/way {outside}",
        refused: &["hold"],
        walls: &[Wall::Of(Resolution)],
        prepare: |scene| {
            scene.mount("folder", "/folder", false);
            let outside = scene.outside();
            std::fs::write(outside.join("secret"), "secret").unwrap();
        },
        during: Some(|scene| {
            let root = User { uid: 0, gid: 0 };
            let folder = scene.world.base.path().join("folder");
            let view = scene.world.sandboxes.view(root, &folder).unwrap();
            // Until it has been both often enough.
            let (mut folders, mut links) = (0, 0);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(100);
            while folders < 500 || links < 500 {
                assert!(std::time::Instant::now() < deadline, "{folders} {links}");
                match view.list("way".as_ref()) {
                    Ok(entries) if !entries.is_empty() => {
                        return Some("a folder of the host's".to_owned());
                    }
                    Ok(_) => folders += 1,
                    Err(_) => links += 1,
                }
            }
            None
        }),
    }

    /// Writing over the program that started it, which the host runs again (CVE-2019-5736).
    program_of_init {
        attack: "exec 3</proc/self/exe; exec probe trick overwrite 3",
        refused: &["refused the program: E"],
        walls: &[Wall::Scene("the program is the host's root's", |scene| {
            let id = Some(scene.attacker.id_base);
            chown(&scene.attacker.init.executable, id, id).unwrap();
        })],
    }

    /// Climbing out through a folder of the host's that was left open (CVE-2024-21626).
    open_descriptors {
        attack: "for fd in /proc/1/fd/*; do \
                   probe trick read $fd/../../elsewhere/secret $fd/../../../elsewhere/secret; done; \
                 probe trick read /proc/1/cwd/../..{secret}; \
                 (ls /proc/1/fd > /fds); tr '\\n' ' ' < /fds; echo",
        refused: &["\n0 1 2 \n"],
        walls: &[Wall::Of(Descriptors)],
        prepare: |scene| {
            scene.secret();
        },
    }

    /// Climbing out of the root as out of one that was only changed.
    changed_roots {
        attack: "probe trick chroot {secret}",
        refused: &["refused {secret}: ENOENT"],
        walls: &[Wall::Of(Pivot)],
        prepare: |scene| {
            scene.secret();
        },
    }

    /// Writing to what is mounted to be read.
    read_only_folders {
        attack: "mount -o remount,bind,rw /folder 2>&1 && echo got /folder; umount /folder; \
                 echo x > /folder/mine && echo got /folder; true",
        refused: &["denied", "not permitted"],
        walls: &[Wall::Of(UserNamespace)],
        prepare: |scene| {
            scene.mount("folder", "/folder", true);
        },
    }

    /// Leaving a program in a folder that makes whoever runs it outside the host's root.
    setuid_outside {
        attack: "cp /bin/probe /folder/mine && chmod 6755 /folder/mine && echo made",
        refused: &["made"],
        walls: &[Wall::Scene("a range of ids of its own", |scene| {
            scene.attacker.id_base = 0;
            if let MountSource::Host { ids, .. } = &mut scene.attacker.mounts[0].source {
                *ids = MountIds::Unshifted;
            }
        })],
        prepare: |scene| {
            let folder = scene.mount("folder", "/folder", false);
            chown(folder, Some(1000), Some(1000)).unwrap();
            if let MountSource::Host { ids, .. } = &mut scene.attacker.mounts[0].source {
                *ids = MountIds::Developer {
                    outside_uid: 1000,
                    outside_gid: 1000,
                    inside_uid: 1000,
                    inside_gid: 1000,
                };
            }
        },
        taken: |scene| {
            let made = scene.world.base.path().join("folder/mine");
            let made = std::fs::metadata(made).ok()?;
            let roots = made.mode() & 0o4000 != 0 && made.uid() == 0
                || made.mode() & 0o2000 != 0 && made.gid() == 0;
            roots.then(|| "a program of the host's root".to_owned())
        },
    }

    /// Becoming root inside by a program in a folder, which others may write to.
    setuid_inside {
        attack: "su dev -s /bin/sh -c '/folder/mine trick user'",
        refused: &["user 1000"],
        walls: &[Wall::Of(Nosuid)],
        prepare: |scene| {
            let folder = scene.mount("folder", "/folder", false);
            let program = folder.join("mine");
            std::fs::copy(env!("CARGO_BIN_EXE_sandbox-probe"), &program).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
        },
    }

    /// Keeping, by a hard link, a file in a folder that is nobody's inside.
    hard_links {
        attack: "ln /folder/foreign /folder/mine && echo got a link; ln -L /proc/1/exe /tmp/mine && echo got init; true",
        refused: &["too large", "not permitted"],
        walls: &[Wall::Scene("ids outside the range are nobody's", |scene| {
            let foreign = scene.world.base.path().join("folder/foreign");
            chown(foreign, Some(7), Some(7)).unwrap();
        })],
        prepare: |scene| {
            let folder = scene.mount("folder", "/folder", false);
            let foreign = folder.join("foreign");
            std::fs::write(&foreign, "x").unwrap();
            chown(&foreign, Some(4_000_000_000), Some(4_000_000_000)).unwrap();
        },
    }

    /// What the host keeps where its own root is the environment's.
    hidden_host {
        attack: "for file in {secret} /root/.bashrc; do cat $file >/dev/null && echo got $file; done; true",
        refused: &["No such file"],
        walls: &[Wall::Of(HiddenHost)],
        prepare: |scene| {
            scene.secret();
            scene.attacker.root = Root::Host;
            scene.attacker.init.env = vec!["PATH=/usr/bin:/bin".to_owned()];
        },
    }

    /// Anything that two environments of different owners can both write to.
    shared_places {
        attack: "echo hold; sleep 1000",
        refused: &["hold"],
        walls: &[Wall::Scene("folders of its own", |scene| {
            scene.mount("folder", "/folder", false);
            scene.neighbour.mounts = scene.attacker.mounts.clone();
        })],
        during: Some(|scene| {
            let [one, other] = scene.inits().map(writable);
            let both: Vec<_> = one.intersection(&other).collect();
            (!both.is_empty()).then(|| format!("{both:?}"))
        }),
    }
}

/// Makes a device node for everybody.
fn node(path: &Path, (kind, device): (FileType, u64)) {
    let everybody = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, everybody, device).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
}

impl Scene {
    /// A device that the host's root may open and no environment has: the disk where that may be.
    fn openable(&self) -> (FileType, u64) {
        let disk = rustix::fs::stat("/").unwrap().st_dev;
        let character =
            |major, minor| (FileType::CharacterDevice, rustix::fs::makedev(major, minor));
        let candidates = [
            (FileType::BlockDevice, disk),
            // loop-control, rtc, kmsg
            character(10, 237),
            character(10, 135),
            character(1, 11),
        ];
        let path = self.world.base.path().join("candidate");
        let found = candidates.into_iter().find(|candidate| {
            node(&path, *candidate);
            let opens = std::fs::File::open(&path).is_ok();
            std::fs::remove_file(&path).unwrap();
            opens
        });
        found.expect("a device that root may open")
    }

    /// A folder of the host's that everybody may write to, `{outside}`.
    fn outside(&mut self) -> std::path::PathBuf {
        let outside = self.folder("outside");
        for (path, mode) in [(outside.as_path(), 0o777), (self.world.base.path(), 0o755)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        self.say("outside", outside.display());
        outside
    }
}

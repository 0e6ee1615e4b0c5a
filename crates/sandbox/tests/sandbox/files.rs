//! Ids, layers, mounts, and hostile images.

use crate::world::World;
use boatyard_sandbox::spec::{Mount, MountIds, MountSource, Root, User};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

#[test]
fn files_lie_unshifted_on_disk_and_layers_are_never_written() {
    for attach in [false, true] {
        let world = World::with(|options| options.attach_layers = attach);
        let spec = world.spec(
            "one",
            "echo a > /etc/from-layer && touch /root/mine && chown 1000:1000 /root/mine && \
             mkdir /usr/lib/x && mv /usr/lib /usr/lib2 && rm /etc/passwd && stat -c %u /bin/busybox",
        );
        let (code, output) = world.run_spec(&spec);
        assert_eq!((code, output.as_str()), (Some(0), "0\n"), "attach {attach}");
        let upper = world.upper(&spec);
        let changed = std::fs::metadata(upper.join("etc/from-layer")).unwrap();
        assert_eq!((changed.uid(), changed.gid()), (0, 0));
        let mine = std::fs::metadata(upper.join("root/mine")).unwrap();
        assert_eq!((mine.uid(), mine.gid()), (1000, 1000));
        let kept = std::fs::read_to_string(world.layer().join("etc/from-layer")).unwrap();
        assert_eq!(kept, "layer\n");
        assert!(world.layer().join("usr/lib").exists());
    }
}

#[test]
fn a_root_survives_stop_and_start() {
    let world = World::new();
    let spec = world.spec("one", "cat /kept 2>/dev/null; echo again >> /kept; echo mine > /etc/hosts.new; cat /etc/hosts | wc -l");
    world.run_spec(&spec);
    let (_, output) = world.run_spec(&spec);
    assert!(output.contains("again"), "{output}");
}

#[test]
fn a_developers_folder_belongs_to_its_owner_on_both_sides() {
    let world = World::new();
    let folder = world.base.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("theirs"), "x").unwrap();
    for path in [folder.clone(), folder.join("theirs")] {
        chown(path, Some(4321), Some(4322)).unwrap();
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    // The temporary directory above is 0700; only its name must be passable for that user.
    std::fs::set_permissions(world.base.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut spec = world.spec(
        "one",
        "stat -c '%u %g' /folder/theirs; touch /folder/by-root; \
         chown 1000:1000 /root; su dev -s /bin/sh -c 'touch /folder/by-dev'; \
         stat -c '%u %g' /folder/by-dev /folder/by-root",
    );
    spec.mounts.push(Mount {
        source: MountSource::Host {
            path: folder.clone(),
            ids: MountIds::Developer {
                outside_uid: 4321,
                outside_gid: 4322,
                inside_uid: 1000,
                inside_gid: 1000,
            },
            open_as: Some(User {
                uid: 4321,
                gid: 4322,
            }),
        },
        target: "/folder".into(),
        read_only: false,
    });
    let (_, output) = world.run_spec(&spec);
    assert_eq!(output, "1000 1000\n1000 1000\n0 0\n");
    let ids = |name: &str| {
        let metadata = std::fs::metadata(folder.join(name)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(ids("by-dev"), (4321, 4322));
    assert_eq!(ids("by-root"), (spec.id_base, spec.id_base));
}

#[test]
fn paths_are_opened_with_the_callers_credentials() {
    let world = World::new();
    let user = User {
        uid: 54_321,
        gid: 54_321,
    };
    let open = |path: &str| world.sandboxes.open_as(user, path.as_ref());
    assert!(open("/etc/passwd").is_ok());
    let error = open("/etc/shadow").unwrap_err().to_string();
    assert!(error.contains("/etc/shadow"), "{error}");
    let hidden = world.base.path().join("hidden");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join("file"), "x").unwrap();
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(open(hidden.join("file").to_str().unwrap()).is_err());
    let mut spec = world.spec("one", "cat /s");
    spec.mounts.push(Mount {
        source: MountSource::Host {
            path: "/etc/shadow".into(),
            ids: MountIds::Host,
            open_as: Some(user),
        },
        target: "/s".into(),
        read_only: true,
    });
    let error = world.sandboxes.start(&spec).unwrap_err().to_string();
    assert!(error.contains("/etc/shadow"), "{error}");
}

#[test]
fn device_nodes_of_an_image_do_not_open() {
    let world = World::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.layer().join("sda"),
        rustix::fs::FileType::BlockDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(8, 0),
    )
    .unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.layer().join("zero"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 5),
    )
    .unwrap();
    let (_, output) = world.run(
        "for d in /sda /zero; do (: < $d) 2>/dev/null && echo opened $d; done; \
         mount -o remount,dev / 2>/dev/null && echo remounted; \
         mount -o remount,bind,dev / 2>/dev/null && echo remounted bind; \
         mkdir /tmp/b; mount --rbind / /tmp/b && (: < /tmp/b/zero) 2>/dev/null && echo opened by bind; \
         mount -o remount,bind,dev /tmp/b 2>/dev/null && echo remounted the bind; \
         unshare -Urm sh -c 'mount -o remount,bind,dev /; : < /zero' 2>/dev/null && echo opened nested; \
         echo end",
    );
    assert_eq!(output, "end\n");
}

#[test]
fn links_of_a_hostile_image_lead_nowhere() {
    let world = World::new();
    let outside = world.base.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, world.layer().join("escape")).unwrap();
    symlink("../../../../../../../..", world.layer().join("up")).unwrap();
    symlink(
        "../run/systemd/resolve/stub-resolv.conf",
        world.layer().join("etc/resolv.conf"),
    )
    .unwrap();
    let source = world.base.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let mut spec = world.spec("one", "ls /up; echo end");
    let mount = |target: &str| Mount {
        source: MountSource::Host {
            path: source.clone(),
            ids: MountIds::Unshifted,
            open_as: None,
        },
        target: target.into(),
        read_only: false,
    };
    spec.mounts = vec![mount("/up/new/place")];
    let (_, output) = world.run_spec(&spec);
    assert!(
        output.ends_with("end\n") && output.contains("new"),
        "{output}"
    );
    spec.mounts = vec![mount("/escape/x")];
    assert!(world.sandboxes.start(&spec).is_err());
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!std::path::Path::new("/new").exists());
    for name in ["proc", "dev", "sys", "run"] {
        let world = World::new();
        let path = world.layer().join(name);
        let _ = std::fs::remove_dir(&path);
        symlink("/tmp", &path).unwrap();
        let error = world
            .sandboxes
            .start(&world.spec("one", "true"))
            .unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(world.traces().is_empty());
    }
}

/// The kernel gives up a look-up through `..` whenever anything is renamed on the machine.
#[test]
fn links_are_followed_while_the_machine_renames() {
    let world = World::new();
    symlink("../../../../../../../..", world.layer().join("up")).unwrap();
    let source = world.base.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let mut spec = world.spec("one", "true");
    spec.mounts = vec![Mount {
        source: MountSource::Host {
            path: source,
            ids: MountIds::Unshifted,
            open_as: None,
        },
        target: "/up/up/up/up/place".into(),
        read_only: false,
    }];
    let (one, two) = (world.base.path().join("a"), world.base.path().join("b"));
    std::fs::create_dir(&one).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::rename(&one, &two).unwrap();
                std::fs::rename(&two, &one).unwrap();
            }
        });
        let results: Vec<_> = (0..20)
            .map(|_| {
                let started = world.sandboxes.start(&spec);
                started.and(world.sandboxes.remove(&spec.id, &spec.state))
            })
            .collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for result in results {
            result.unwrap();
        }
    });
}

#[test]
fn read_only_mounts_stay_read_only() {
    let world = World::new();
    let source = world.base.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let mut spec = world.spec(
        "one",
        "touch /m/x 2>/dev/null && echo wrote; mount -o remount,rw,bind /m 2>/dev/null; \
         umount /m 2>/dev/null && echo unmounted; touch /m/x 2>/dev/null && echo wrote; \
         df /t | tail -1 | awk '{print $2}'",
    );
    spec.mounts = vec![
        Mount {
            source: MountSource::Host {
                path: source.clone(),
                ids: MountIds::Unshifted,
                open_as: None,
            },
            target: "/m".into(),
            read_only: true,
        },
        Mount {
            source: MountSource::Tmpfs {
                size: Some(1 << 20),
                mode: 0o1777,
            },
            target: "/t".into(),
            read_only: false,
        },
    ];
    assert_eq!(world.run_spec(&spec).1, "1024\n");
    assert_eq!(std::fs::read_dir(&source).unwrap().count(), 0);
}

#[test]
fn the_hosts_root_serves_tools_and_hides_secrets() {
    let world = World::new();
    let mut spec = world.spec(
        "one",
        "cat /etc/shadow 2>/dev/null && echo read; ls /root /home /var; touch /usr/bin/new 2>/dev/null && echo changed; \
         /bin/cat /etc/hostname; /usr/bin/id -u",
    );
    spec.root = Root::Host;
    spec.init.env = vec!["PATH=/usr/bin:/bin".to_owned()];
    let (_, output) = world.run_spec(&spec);
    assert_eq!(output, "/home:\n\n/root:\n\n/var:\nharbour\n0\n");
    assert!(!std::path::Path::new("/usr/bin/new").exists());
}

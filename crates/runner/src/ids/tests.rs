//! Who gets whose id, and what the files say then.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\ndev:x:1234:1234::/home/dev:/bin/bash\nnode:x:1000:1000::/:/x\n";
const GROUP: &str = "root:x:0:\ndev:x:1234:node\nnode:x:1000:\nstaff:x:50:\n";

#[test]
fn the_developers_ids_are_taken_where_the_image_gives_them_to_nobody_else() {
    let rows = [
        ("dev", (1234, 1234), (2000, 2000), Some((true, true))),
        ("dev", (1234, 1234), (2000, 50), Some((true, false))),
        ("dev", (1234, 1234), (1234, 2000), Some((false, true))),
        ("dev", (1234, 1234), (1000, 2000), None),
        ("dev", (1234, 1234), (1234, 1234), None),
        ("dev", (1234, 1234), (0, 0), None),
        ("root", (0, 0), (2000, 2000), None),
        ("1234", (1234, 1234), (2000, 2000), None),
        ("dev", (1234, 1234), (ID_RANGE, 2000), None),
    ];
    for (name, image, developer, wanted) in rows {
        let swap = decide(&Question {
            name,
            image,
            developer,
            passwd: PASSWD,
            group: GROUP,
        });
        let told = swap.map(|swap| (swap.uid.is_some(), swap.gid.is_some()));
        assert_eq!(told, wanted, "{name} {developer:?}");
    }
}

#[test]
fn files_are_written_once_and_taken_back_while_they_are_unchanged() {
    let place = tempfile::tempdir().unwrap();
    let (upper, layer) = (place.path().join("upper"), place.path().join("layer"));
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::create_dir_all(layer.join("etc")).unwrap();
    std::fs::write(layer.join("etc/passwd"), PASSWD).unwrap();
    std::fs::write(layer.join("etc/group"), GROUP).unwrap();
    let mut ids = Ids {
        swap: Swap {
            uid: Some((1234, 2000)),
            gid: Some((1234, 2001)),
        },
        ..Ids::default()
    };
    let layers = [layer];
    write(&upper, &layers, &mut ids).unwrap();
    let read = |path: &str| std::fs::read_to_string(upper.join(path)).unwrap();
    assert_eq!(
        read("etc/passwd"),
        PASSWD.replace("dev:x:1234:1234", "dev:x:2000:2001")
    );
    assert_eq!(read("etc/group"), GROUP.replace("dev:x:1234", "dev:x:2001"));
    assert!(take_back(&upper, &ids) && !has_own(&upper));
    write(&upper, &layers, &mut ids).unwrap();
    std::fs::write(upper.join("etc/passwd"), "mine").unwrap();
    write(&upper, &layers, &mut ids).unwrap();
    assert_eq!(read("etc/passwd"), "mine");
    assert!(!take_back(&upper, &ids) && has_own(&upper));
}

#[test]
fn a_link_in_the_environments_layer_leads_nowhere() {
    let place = tempfile::tempdir().unwrap();
    let (upper, layer) = (place.path().join("upper"), place.path().join("layer"));
    let elsewhere = place.path().join("elsewhere");
    for folder in [&upper, &elsewhere, &layer.join("etc")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(layer.join("etc/passwd"), PASSWD).unwrap();
    std::fs::write(elsewhere.join("passwd"), "theirs").unwrap();
    std::os::unix::fs::symlink(&elsewhere, upper.join("etc")).unwrap();
    assert!(!has_own(&upper));
    take_back(&upper, &Ids::default());
    assert!(elsewhere.join("passwd").exists());
}

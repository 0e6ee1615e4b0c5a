use super::*;

const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
41 31 0:38 / /nonexistent/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 /deep /mnt rw,relatime - cgroup cgroup rw,memory
";

#[test]
fn version_1_is_used_when_version_2_has_no_controllers() {
    let chosen = choose(parse(V1));
    let names: Vec<&str> = chosen.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["cpu,cpuacct", "name=systemd"]);
    assert!(chosen[0].has_classes());
    assert_eq!(chosen[1].mount_options(), "none,name=systemd");
    assert_eq!(chosen[1].directory_name(), "systemd");
}

#[test]
fn version_2_is_used_alone_when_it_can_limit() {
    let full = |unified, names: &[&str]| Hierarchy {
        name: "x".to_owned(),
        mount: PathBuf::new(),
        unified,
        controllers: names.iter().map(|n| (*n).to_owned()).collect(),
    };
    let chosen = choose(vec![
        full(false, &["freezer"]),
        full(true, &["cpu", "io", "memory", "pids"]),
    ]);
    assert_eq!(chosen.len(), 1);
    assert!(chosen[0].unified);
    assert_eq!(chosen[0].enable(), "+cpu +memory +pids +io");
}

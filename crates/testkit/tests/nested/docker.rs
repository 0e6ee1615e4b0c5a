//! Docker as the distribution packages it, started as a developer would.

use super::{Daemon, RETRY, environment, root, user};

/// Starts the engine as the user, by sudo, with arguments, and imports the image `box`.
fn start(daemon: &Daemon, arguments: &str) {
    let script = format!(
        "{RETRY} sudo sh -c 'dockerd {arguments} > /var/log/dockerd.log 2>&1 &'
         retry sudo docker version > /dev/null || {{ sudo tail -50 /var/log/dockerd.log >&2; exit 1; }}
         sudo docker import box.tar box > /dev/null"
    );
    user(daemon, &script);
}

const DOCKERFILE: &str = "printf 'FROM box\\nRUN echo built > /made && chown 5:6 /made && rm -r /var\\nRUN ip address show eth0\\nCOPY given /given\\nUSER 1000\\nCMD cat /given; stat -c %%u:%%g /made; ls -d /var; id -u\\n' > Dockerfile; echo given > given";
const BUILT: &str = "given\n5:6\n1000\n";

#[test]
fn docker_runs_builds_and_publishes() {
    let daemon = environment();
    start(&daemon, "");
    let info = user(&daemon, "sudo docker info --format '{{.Driver}}'");
    assert_eq!(info, "overlay2\n");
    // The bridge's network, the environment's names, and limits of its own below the environment's.
    let seen = user(
        &daemon,
        "sudo docker run --rm box sh -c 'ip -o -4 address show eth0; ping -c1 -W5 172.17.0.1; cat /etc/resolv.conf'",
    );
    assert!(
        seen.contains("172.17.0.") && seen.contains("1 packets received"),
        "{seen}"
    );
    assert!(seen.contains("nameserver 169.254.53.53"), "{seen}");
    let limited = user(
        &daemon,
        "sudo docker run --rm --memory 64m --pids-limit 50 --cpus 0.5 box sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null; true'",
    );
    assert_eq!(limited, "67108864\n50\n");
    // A published port answers in the environment.
    let served = user(
        &daemon,
        &format!("{RETRY} sudo docker run -d --name web -p 8081:80 box sh -c 'mkdir /www; echo served > /www/index.html; exec busybox httpd -f -p 80 -h /www' > /dev/null
            retry busybox wget -qO- http://127.0.0.1:8081/
            sudo docker exec web cat /www/index.html; sudo docker rm -f web > /dev/null"),
    );
    assert_eq!(served, "served\nserved\n");
    // Volumes, binds, a read-only root.
    let mounted = user(
        &daemon,
        "sudo docker run --rm --read-only --tmpfs /tmp -v \"$PWD\":/there:ro -v kept:/kept box sh -c 'touch /tmp/x /kept/y; ls /there/box.tar; touch /z 2>/dev/null || touch /there/z 2>/dev/null || echo refused'
         sudo docker run --rm -v kept:/kept box ls /kept",
    );
    assert_eq!(mounted, "/there/box.tar\nrefused\ny\n");
    // A program of the environment's is passed in read-only, by a tool that forgets locked flags.
    let seen = user(&daemon, "sudo docker run --rm --init box cat /proc/1/comm");
    assert_eq!(seen, "docker-init\n");
    // Both builders.
    for builder in ["DOCKER_BUILDKIT=1", "DOCKER_BUILDKIT=0"] {
        let script = format!("mkdir -p ~/context; cd ~/context; {DOCKERFILE}
            sudo {builder} docker build -q -t built . > /dev/null 2>&1; sudo docker run --rm built 2>/dev/null || true");
        assert_eq!(user(&daemon, &script), BUILT, "{builder}");
    }
    // A container with all privileges has those of the environment: another engine's needs.
    let privileged = user(
        &daemon,
        "sudo docker run --rm --privileged box sh -c 'mount -t tmpfs none /tmp && mount -t proc none /root && unshare -m true && echo done'",
    );
    assert_eq!(privileged, "done\n");
}

#[test]
fn docker_composes_services_and_its_images_outlive_a_restart() {
    let daemon = environment();
    start(&daemon, "");
    let compose = "
services:
  web:
    image: box
    command: sh -c 'mkdir /www; echo from-web > /www/index.html; exec busybox httpd -f -p 80 -h /www'
    ports: ['8090:80']
    init: true
  client:
    build: .
    command: sh -c 'echo x > /data/x; for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://web/ && break; sleep 1; done; exec sleep 1000'
    depends_on: [web]
    volumes: ['data:/data']
volumes: {data: {}}
";
    root(
        &daemon,
        &format!(
            "mkdir /srv/c; cd /srv/c; cat > compose.yaml <<'.'\n{compose}.\nprintf 'FROM box\\nRUN echo a step\\n' > Dockerfile"
        ),
    );
    let seen = user(
        &daemon,
        &format!("{RETRY} cd /srv/c; sudo docker compose up -d > /tmp/compose.log 2>&1 || {{ cat /tmp/compose.log >&2; exit 1; }}
            retry busybox wget -qO- http://127.0.0.1:8090/
            heard() {{ sudo docker compose logs client | grep -o from-web; }}; retry heard
            sudo docker compose down -t 0 > /dev/null 2>&1; sudo docker volume ls -q"),
    );
    assert_eq!(seen, "from-web\nfrom-web\nc_data\n");

    daemon.cli(&["restart", "n"]).ok();
    start(&daemon, "");
    let kept = user(
        &daemon,
        "sudo docker run --rm -v c_data:/data c-client cat /data/x",
    );
    assert_eq!(kept, "x\n");
    // Running containers do not hold up the environment's end, and nothing of them is left.
    user(&daemon, "sudo docker run -d box sleep 1000 > /dev/null");
    daemon.cli(&["rm", "--force", "n"]).ok();
    let left = daemon.photo();
    assert!(
        left.processes.is_empty() && left.cgroups.is_empty(),
        "{left:?}"
    );
}

#[test]
fn docker_stores_images_by_fuse_overlayfs() {
    let daemon = environment();
    start(&daemon, "--storage-driver fuse-overlayfs");
    let ran = user(
        &daemon,
        "sudo docker run --rm box sh -c 'rm /etc/group; echo x > /etc/passwd; cat /etc/passwd'; sudo docker info --format '{{.Driver}}'",
    );
    assert_eq!(ran, "x\nfuse-overlayfs\n");
}

//! What gives or needs privileges inside: setuid programs, capabilities, packages, debuggers.

use super::{environment, root, user};

#[test]
fn setuid_programs_file_capabilities_and_sudo_give_what_they_should() {
    let daemon = environment();
    root(
        &daemon,
        "cp /usr/bin/id /usr/local/bin/setuid-id; chmod 4755 /usr/local/bin/setuid-id
         cp /usr/bin/cat /usr/local/bin/reader; setcap cap_dac_read_search+ep /usr/local/bin/reader; echo secret > /root/file; chmod 600 /root/file",
    );
    let seen = user(
        &daemon,
        "setuid-id -u; sudo id -u; cat /root/file 2>/dev/null || echo refused; reader /root/file; /usr/sbin/getcap /usr/local/bin/reader; sudo -u nobody id -un",
    );
    assert_eq!(
        seen,
        "0\n0\nrefused\nsecret\n/usr/local/bin/reader cap_dac_read_search=ep\nnobody\n"
    );
}

/// A package that does at its installation what packages do: users, owners, modes, links.
#[test]
fn packages_that_chown_are_installed() {
    let daemon = environment();
    let script = "cd $(mktemp -d); chmod 755 .; mkdir -p p/DEBIAN p/usr/bin p/var/lib/probe; cp /usr/bin/id p/usr/bin/probe-id; chown root:games p/usr/bin/probe-id; chmod 2755 p/usr/bin/probe-id
printf 'Package: probe\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody <nobody@example.org>\\nDescription: probe\\n' > p/DEBIAN/control
cat > p/DEBIAN/postinst <<'.'
#!/bin/sh
set -e
adduser --system --group --quiet --home /var/lib/probe probe
chown -R probe:probe /var/lib/probe; chmod 2770 /var/lib/probe
mkfifo /var/lib/probe/pipe; chown probe:adm /var/lib/probe/pipe
setcap cap_net_bind_service+ep /usr/bin/probe-id
.
chmod 755 p/DEBIAN/postinst; dpkg-deb -b p probe.deb > /dev/null
apt-get install -qq -y ./probe.deb > log 2>&1 || { cat log >&2; exit 1; }
stat -c '%U:%G %a' /var/lib/probe /var/lib/probe/pipe /usr/bin/probe-id; getcap /usr/bin/probe-id; dpkg -s probe | grep Status; apt-get purge -qq -y probe > log 2>&1";
    assert_eq!(
        root(&daemon, script),
        "probe:probe 2770\nprobe:adm 644\nroot:games 2755\n/usr/bin/probe-id cap_net_bind_service=ep\nStatus: install ok installed\n"
    );
}

#[test]
fn own_processes_are_traced_and_debugged() {
    let daemon = environment();
    let seen = user(
        &daemon,
        "strace -o /tmp/trace -e trace=openat true; grep -c openat /tmp/trace | grep -qv '^0'
         sleep 1000 & until [ \"$(readlink /proc/$!/exe)\" = /usr/bin/sleep ]; do :; done; gdb -q -batch -p $! -ex 'info proc' 2>&1 | grep -o \"exe = '/usr/bin/sleep'\"
         timeout 20 strace -o /tmp/attached -p $! & for _ in $(seq 100); do grep -q TracerPid:.[1-9] /proc/$(pgrep -x sleep)/status && break; sleep 0.1; done
         kill $(pgrep -x sleep); wait; grep -o 'killed by SIGTERM' /tmp/attached",
    );
    assert_eq!(seen, "exe = '/usr/bin/sleep'\nkilled by SIGTERM\n");
}

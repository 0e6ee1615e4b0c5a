//! The host's part of the network: forwarding and the firewall, prepared once per runner.
//!
//! One static table, filled in one transaction by `nft -f -`, matches the interfaces' prefix:
//! masquerading outwards, nothing between sandboxes, nothing to the host's own services and to what
//! other engines run on it, nothing to metadata addresses, no forged source, a bounded number of
//! connections each. What is not let through is refused at once, so that nobody waits for it; what
//! bears a forged source is dropped, lest the refusal be somebody else's. Where another firewall drops forwarded
//! packets by policy (dockerd, ufw), accepting rules for our interfaces are put first in it; firewalld,
//! which refuses what comes from interfaces it does not know, is told to trust ours: our table, whose rules
//! come before, has judged what they bring.
//!
//! What was changed is recorded in `<state_dir>/network.json` before it is changed, and undone by
//! [`teardown`]. Preparing twice is preparing once.

use super::netfilter;
use crate::error::Error;
use crate::record;
use crate::sandboxes::Options;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::process::{Command, Stdio};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const RECORD: &str = "network.json";

/// What the host was before.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Before {
    /// ip_forward was switched on by us.
    forward_was_off: bool,
    /// Rules put into the iptables FORWARD chain.
    iptables: bool,
    /// Our interfaces put into firewalld's zone `trusted`.
    #[serde(default)]
    firewalld: bool,
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::Host {
        what,
        detail: error.to_string(),
    }
}

/// Makes the host ready for routed sandboxes.
pub(crate) fn prepare(options: &Options) -> Result<(), Error> {
    let recording = failed("record what is changed");
    std::fs::create_dir_all(&options.state_dir).map_err(&recording)?;
    let directory = rustix::fs::open(
        &options.state_dir,
        OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| recording(error.into()))?;
    let mut before: Before = record::read(&options.state_dir, RECORD)
        .map_err(&recording)?
        .unwrap_or_default();
    let forward = std::fs::read_to_string(FORWARD).map_err(failed("read ip_forward"))?;
    before.forward_was_off |= forward.trim() == "0";
    before.iptables |= drops_by_policy();
    let firewalld = has_firewalld();
    before.firewalld |= firewalld;
    record::write(&directory, RECORD, &before).map_err(&recording)?;
    nft(&rules(&options.table, &options.interface_prefix, flows()))?;
    if before.iptables {
        for rule in passes(&options.interface_prefix) {
            if !iptables("-C", &rule) && !iptables("-I", &rule) {
                return Err(Error::Host {
                    what: "let sandboxes pass the host's firewall",
                    detail: "iptables refused a rule in FORWARD".to_owned(),
                });
            }
        }
    }
    if firewalld {
        trust("--change-interface", &options.interface_prefix).map_err(|detail| Error::Host {
            what: "let sandboxes pass firewalld",
            detail,
        })?;
    }
    if forward.trim() == "0" {
        std::fs::write(FORWARD, "1").map_err(failed("switch ip_forward on"))?;
    }
    Ok(())
}

/// Undoes [`prepare`].
pub(crate) fn teardown(options: &Options) -> Result<(), Error> {
    let before: Option<Before> =
        record::read(&options.state_dir, RECORD).map_err(failed("read what was changed"))?;
    let Some(before) = before else {
        return Ok(());
    };
    let table = &options.table;
    nft(&format!(
        "table inet {table} {{}}\ndelete table inet {table}\n"
    ))?;
    if before.iptables {
        for rule in passes(&options.interface_prefix) {
            while iptables("-C", &rule) && iptables("-D", &rule) {}
        }
    }
    if before.firewalld && has_firewalld() {
        // Whoever took them out before has done it.
        let _ = trust("--remove-interface", &options.interface_prefix);
    }
    if before.forward_was_off {
        std::fs::write(FORWARD, "0").map_err(failed("switch ip_forward off"))?;
    }
    std::fs::remove_file(options.state_dir.join(RECORD)).map_err(failed("forget what was changed"))
}

/// Chains and what is in them. `fwd` is a keyword of nft, so no chain bears that name.
///
/// Chains are emptied and filled again, in one transaction, rather than the table made anew: in it
/// are the policies of sandboxes that run (see `egress`), for which [`super::egress::MAP`] is there.
fn rules(table: &str, prefix: &str, flows: u32) -> String {
    let ours = format!("\"{prefix}-*\"");
    let uplinks = super::outside::uplinks();
    let engines: String = ENGINES
        .iter()
        .map(|engine| {
            let uplinks = uplinks.iter().filter(|name| name.starts_with(engine));
            let but: String = uplinks
                .map(|name| format!("oifname != \"{name}\" "))
                .collect();
            format!("    {but}oifname \"{engine}*\" goto refuse\n")
        })
        .collect();
    let map = super::egress::MAP;
    let chains = [
        (
            "refuse",
            String::new(),
            "    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
"
            .to_owned(),
        ),
        (
            "opening",
            String::new(),
            format!(
                "    ct status dnat goto refuse
{engines}    add @flows {{ ip saddr ct count over {flows} }} goto refuse
"
            ),
        ),
        (
            "leaving",
            String::new(),
            format!(
                "    meta nfproto ipv6 drop
    fib saddr . iif oif missing drop
    oifname {ours} goto refuse
    ip daddr {{ {NOWHERE} }} goto refuse
    ct state invalid drop
    ct state new jump opening
    iifname vmap @{map}
"
            ),
        ),
        (
            "forwarded",
            "type filter hook forward priority filter - 5; policy accept;".to_owned(),
            format!(
                "    iifname {ours} jump leaving
    oifname {ours} ct state established,related accept
    oifname {ours} drop
"
            ),
        ),
        (
            "visiting",
            String::new(),
            "    meta nfproto ipv6 drop
    fib saddr . iif oif missing drop
    ct state established,related accept
    goto refuse
"
            .to_owned(),
        ),
        (
            "arriving",
            "type filter hook input priority filter - 5; policy accept;".to_owned(),
            format!(
                "    iifname {ours} goto visiting
"
            ),
        ),
        (
            "outward",
            "type nat hook postrouting priority srcnat; policy accept;".to_owned(),
            format!(
                "    iifname {ours} oifname != {ours} masquerade
"
            ),
        ),
    ];
    let mut text = format!(
        "table inet {table} {{
  map {map} {{ type ifname : verdict; }}
  set flows {{ type ipv4_addr; flags dynamic; size 65535; }}
"
    );
    for (name, hook, _) in &chains {
        let _ = writeln!(text, "  chain {name} {{ {hook} }}");
    }
    text.push_str("}\n");
    for (name, ..) in &chains {
        let _ = writeln!(text, "flush chain inet {table} {name}");
    }
    let _ = writeln!(text, "table inet {table} {{");
    for (name, _, content) in &chains {
        let _ = write!(text, "  chain {name} {{\n{content}  }}\n");
    }
    text.push_str("}\n");
    text
}

/// Addresses that lead nowhere a sandbox has any business: this host, its links and the metadata
/// services of clouds (169.254.169.254 and its like; Alibaba's, Azure's, Oracle's), multicast.
const NOWHERE: &str = "0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 100.100.100.200, 168.63.129.16, \
                       192.0.0.192, 224.0.0.0/3";

/// Beginnings of the names of the bridges on which other engines keep their containers and machines:
/// this host's own, as its services are. One that a default route leads out of is none of them.
const ENGINES: [&str; 9] = [
    "docker", "br-", "podman", "cni", "lxcbr", "lxdbr", "incusbr", "virbr", "vmbr",
];

/// Connections that each address may have at once: the host's table of connections is everybody's. No
/// more, since the kernel walks through them to count them.
fn flows() -> u32 {
    let most = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    let most: Option<u32> = most.ok().and_then(|text| text.trim().parse().ok());
    (most.unwrap_or(65_536) / 64).clamp(512, 4096)
}

fn nft(text: &str) -> Result<(), Error> {
    netfilter::load(text).map_err(|error| Error::Host {
        what: netfilter::PROGRAM,
        detail: error.to_string().trim().to_owned(),
    })
}

/// Whether the iptables FORWARD chain drops what no rule accepts.
fn drops_by_policy() -> bool {
    Command::new("iptables")
        .args(["-w", "-S", "FORWARD"])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .any(|line| line == "-P FORWARD DROP")
        })
}

/// The rules that let our traffic pass; our own table has judged it already.
fn passes(prefix: &str) -> [Vec<String>; 2] {
    let ours = format!("{prefix}-+");
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    [
        words(&format!("-i {ours} -j ACCEPT")),
        words(&format!(
            "-o {ours} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        )),
    ]
}

fn iptables(how: &str, rule: &[String]) -> bool {
    Command::new("iptables")
        .args(["-w", how, "FORWARD"])
        .args(rule)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether firewalld runs here and judges what is forwarded.
fn has_firewalld() -> bool {
    netfilter::has_chain("firewalld", "filter_FORWARD").unwrap_or(false)
}

/// Changes what firewalld's zone `trusted` says of our interfaces, for as long as it runs: it keeps that
/// when it reads its configuration anew.
fn trust(how: &str, prefix: &str) -> Result<(), String> {
    let output = Command::new("firewall-cmd")
        .args(["--quiet", "--zone=trusted"])
        .arg(format!("{how}={prefix}-+"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("firewalld runs and firewall-cmd cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

//! The network's tools: the namespace is the environment's own.

use super::{RETRY, environment, root, user};

#[test]
fn the_network_is_administered_and_watched() {
    let daemon = environment();
    let seen = root(
        &daemon,
        "ip link add br9 type bridge; ip link add v1 type veth peer name v2; ip link set v1 master br9; ip link del v1; ip link del br9
         ip link add v9 type vxlan id 5 dstport 4789; ip link del v9
         ip tuntap add dev tun5 mode tun user dev; ip address add 10.99.0.1/24 dev tun5; ip link set tun5 up; ip -o -4 address show tun5 | grep -o 10.99.0.1/24
         nft add table inet t; nft add chain inet t c '{ type filter hook output priority 0; }'; nft add rule inet t c ip daddr 127.0.0.9 drop
         ping -c1 -W1 127.0.0.9 > /dev/null 2>&1 || echo dropped; nft delete table inet t
         iptables -t nat -A POSTROUTING -s 10.99.0.0/24 -j MASQUERADE; iptables -t nat -D POSTROUTING 1
         sysctl -qw net.ipv4.ip_forward=1
         ip netns add a; ip netns exec a ip link set lo up; ip netns exec a ping -c1 -W5 127.0.0.1 | grep -o '1 received'; ip netns del a",
    );
    assert_eq!(seen, "10.99.0.1/24\ndropped\n1 received\n");
    let seen = root(
        &daemon,
        &format!("{RETRY} timeout 30 tcpdump -U -l -c 2 -n -i lo icmp > /tmp/dump 2>/tmp/told & 
            retry grep -q listening /tmp/told; ping -c 2 -i 0.2 127.0.0.1 > /dev/null; wait; grep -c 'ICMP echo' /tmp/dump"),
    );
    assert_eq!(seen, "2\n");
}

#[test]
fn ordinary_users_ping_and_serve_on_low_ports() {
    let daemon = environment();
    let seen = user(
        &daemon,
        "ping -c1 -W5 127.0.0.1 | grep -o '1 received'; timeout 1 busybox nc -l -p 80 > /dev/null || test $? = 143 -o $? = 124",
    );
    assert_eq!(seen, "1 received\n");
}

#[test]
fn wireguard_in_userspace_carries_traffic() {
    let daemon = environment();
    // Two ends in network namespaces of their own, over a veth.
    let end = |name: &str, number: u8, other: u8, peer: &str| {
        format!(
            "ip netns exec {name} ip address add 192.0.2.{number}/24 dev {name}; ip netns exec {name} ip link set dev {name} up; ip netns exec {name} ip link set lo up
             ip netns exec {name} env WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1 wireguard-go wg{name} > /tmp/{name}.log 2>&1
             retry ip netns exec {name} wg set wg{name} private-key /tmp/{name}.key listen-port 51820
             ip netns exec {name} wg set wg{name} peer $(wg pubkey < /tmp/{peer}.key) allowed-ips 10.7.0.{other}/32 endpoint 192.0.2.{other}:51820
             ip netns exec {name} ip address add 10.7.0.{number}/24 dev wg{name}; ip netns exec {name} ip link set dev wg{name} up\n"
        )
    };
    let script = format!(
        "{RETRY} umask 077; for n in a b; do wg genkey > /tmp/$n.key; ip netns add $n; done
         ip link add name a netns a type veth peer name b netns b\n{}{}
         ip netns exec a ping -c1 -W10 10.7.0.2 | grep -o '1 received'; ip netns exec b wg show wgb latest-handshakes | grep -vc '\\b0$'",
        end("a", 1, 2, "b"),
        end("b", 2, 1, "a")
    );
    assert_eq!(root(&daemon, &script), "1 received\n1\n");
}

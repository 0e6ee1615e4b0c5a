//! Questions and answers, good and hostile.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// A name as labels.
fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn query(name: &[u8], kind: u16) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

/// An answer to `query` with records given as owner, type, seconds and data.
fn reply(query: &[u8], records: &[(Vec<u8>, u16, u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    (bytes[2], bytes[3]) = (0x81, 0x80);
    bytes[7] = u8::try_from(records.len()).unwrap();
    for (owner, kind, seconds, data) in records {
        bytes.extend_from_slice(owner);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 1]);
        bytes.extend_from_slice(&seconds.to_be_bytes());
        bytes.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

#[test]
fn a_question_is_read_in_lower_case_and_made_anew() {
    let bytes = query(&labels("WWW.Example.org"), A);
    let question = Question::read(&bytes).unwrap();
    assert_eq!(question.name.as_deref(), Some("www.example.org"));
    assert!(!question.strange);
    let forward = question.forward(0xbeef);
    assert_eq!(&forward[..2], &[0xbe, 0xef]);
    let mut answer = reply(&forward, &[]);
    assert!(question.is_answered(0xbeef, &answer));
    assert!(!question.is_answered(0xbeee, &answer));
    answer[13] = b'x';
    assert!(!question.is_answered(0xbeef, &answer));
    assert!(
        !question.is_answered(0xbeef, &forward),
        "a query is no answer"
    );
    assert_eq!(Question::read(&answer), None, "an answer is no query");
}

#[test]
fn a_label_with_a_dot_in_it_is_no_hosts_name() {
    let name = b"\x0awww.allowed\x03org\0";
    let mut name = name.to_vec();
    name[0] = 11;
    let question = Question::read(&query(&name, A)).unwrap();
    assert_eq!(question.name, None);
    let root = Question::read(&query(&[0], A)).unwrap();
    assert_eq!(root.name, None);
}

#[test]
fn addresses_are_taken_at_the_end_of_the_chain_and_nowhere_else() {
    let asked = query(&labels("www.example.org"), A);
    let owner = vec![0xc0, 12];
    let records = [
        (labels("other.example"), A, 9, vec![9, 9, 9, 9]),
        (labels("cdn.example.net"), A, 300, vec![198, 51, 100, 7]),
        (owner.clone(), 5, 60, labels("CDN.example.net")),
        (labels("cdn.example.net"), A, 300, vec![198, 51, 100, 8]),
        (labels("cdn.example.net"), 46, 1, vec![1, 2, 3]),
    ];
    let answer = Answer::read(&reply(&asked, &records)).unwrap();
    let expected: Vec<Ipv4Addr> = vec![[198, 51, 100, 7].into(), [198, 51, 100, 8].into()];
    assert_eq!(answer.addresses, expected);
    assert_eq!(answer.seconds, 60);
    // What the client gets says the same.
    let question = Question::read(&asked).unwrap();
    let again = Answer::read(&question.answer(&answer, true)).unwrap();
    assert_eq!(again, answer);
    // Owners in a circle lead nowhere.
    let circle = [
        (owner, 5, 60, labels("a.example")),
        (labels("a.example"), 5, 60, labels("www.example.org")),
    ];
    assert_eq!(Answer::read(&reply(&asked, &circle)), None);
}

#[test]
fn what_does_not_fit_into_a_datagram_is_asked_for_again() {
    let asked = query(&labels("www.example.org"), A);
    let records: Vec<_> = (0..60)
        .map(|n| (vec![0xc0, 12], A, 60, vec![198, 51, 100, n]))
        .collect();
    let answer = Answer::read(&reply(&asked, &records)).unwrap();
    assert_eq!(answer.addresses.len(), 60);
    let question = Question::read(&asked).unwrap();
    let short = question.answer(&answer, true);
    assert!(short.len() <= 512 && short[2] & 2 != 0);
    assert_eq!(
        Answer::read(&question.answer(&answer, false)).unwrap(),
        answer
    );
}

#[test]
fn a_forbidden_name_does_not_exist_and_the_reason_is_told_to_who_reads_it() {
    let plain = query(&labels("no.example"), A);
    let question = Question::read(&plain).unwrap();
    let answer = question.forbidden();
    assert_eq!(answer[3] & 0xf, NXDOMAIN);
    assert_eq!(answer.len(), plain.len());
    let mut extended = plain.clone();
    extended[11] = 1;
    extended.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let answer = Question::read(&extended).unwrap().forbidden();
    let tail = String::from_utf8_lossy(&answer);
    assert!(tail.contains("egress policy"), "{tail}");
}

#[test]
fn no_bytes_bring_a_panic_or_an_endless_loop() {
    let asked = query(&labels("www.example.org"), A);
    let good = reply(
        &asked,
        &[
            (vec![0xc0, 12], 5, 60, vec![1, b'x', 0xc0, 12]),
            (vec![0xc0, 12], A, 60, vec![1, 2, 3, 4]),
        ],
    );
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap()
    };
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..random() % 6 {
            let at = random() % bytes.len();
            bytes[at] = u8::try_from(random() & 0xff).unwrap();
        }
        bytes.truncate(random() % (bytes.len() + 1));
        let _ = Answer::read(&bytes);
        if let Some(flags) = bytes.get_mut(2) {
            *flags &= 0x7f;
        }
        if let Some(question) = Question::read(&bytes) {
            let _ = (question.forbidden(), question.forward(1), question.empty(0));
        }
    }
    // A pointer to itself, and one forwards.
    for pointer in [[0xc0, 12], [0xc0, 40]] {
        assert_eq!(Question::read(&query(&pointer, A)), None);
    }
}

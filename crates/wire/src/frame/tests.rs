//! Framing keeps every byte whatever the pieces, and refuses what it must.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn kinds() -> impl Strategy<Value = Kind> {
    (1u8..=6).prop_map(|byte| Kind::from_u8(byte).unwrap())
}

fn frames() -> impl Strategy<Value = Vec<(Kind, Vec<u8>)>> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (MAX_PAYLOAD - 2..=MAX_PAYLOAD).prop_map(|length| vec![7; length]),
    ];
    prop::collection::vec((kinds(), payload), 0..8)
}

proptest! {
    #[test]
    fn frames_survive_any_split(frames in frames(), cuts in prop::collection::vec(1usize..9000, 1..50)) {
        let mut bytes = Vec::new();
        for (kind, payload) in &frames {
            encode(*kind, payload, &mut bytes).unwrap();
        }
        let mut decoder = Decoder::new();
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = after;
            while let Some((kind, payload)) = decoder.next(&mut piece).unwrap() {
                found.push((kind, payload.to_vec()));
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert!(decoder.at_boundary());
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn blocking_reader_gets_what_the_writer_sent(frames in frames()) {
        let mut bytes = Vec::new();
        for (kind, payload) in &frames {
            write_frame(&mut bytes, *kind, payload).unwrap();
        }
        let mut from = &bytes[..];
        let mut payload = Vec::new();
        for (kind, sent) in &frames {
            prop_assert_eq!(read_frame(&mut from, &mut payload).unwrap(), Some(*kind));
            prop_assert_eq!(&payload, sent);
        }
        prop_assert_eq!(read_frame(&mut from, &mut payload).unwrap(), None);
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_grow_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let mut decoder = Decoder::new();
        let mut input = &bytes[..];
        while let Ok(Some((_, payload))) = decoder.next(&mut input) {
            prop_assert!(payload.len() <= MAX_PAYLOAD);
        }
        prop_assert!(decoder.payload.len() <= MAX_PAYLOAD);
    }

    #[test]
    fn oversize_is_refused_from_its_header(length in MAX_PAYLOAD + 1..=u32::MAX as usize, kind in kinds()) {
        let mut header = u32::try_from(length).unwrap().to_le_bytes().to_vec();
        header.push(kind as u8);
        let mut decoder = Decoder::new();
        let refused = matches!(decoder.next(&mut &header[..]), Err(Error::Oversize { .. }));
        prop_assert!(refused);
        prop_assert_eq!(decoder.payload.capacity(), 0);
        let mut payload = Vec::new();
        let refused = matches!(read_frame(&mut &header[..], &mut payload), Err(Error::Oversize { .. }));
        prop_assert!(refused);
        let refused = matches!(encode_header(kind, length), Err(Error::Oversize { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn unknown_kind_is_refused(kind in prop_oneof![Just(0u8), 7u8..=255], length in 0u32..100) {
        let mut header = length.to_le_bytes().to_vec();
        header.push(kind);
        let refused = matches!(Decoder::new().next(&mut &header[..]), Err(Error::UnknownKind { kind: k }) if k == kind);
        prop_assert!(refused);
    }
}

#[test]
fn end_inside_a_frame_is_an_error() {
    let mut bytes = Vec::new();
    encode(Kind::Stdout, b"hello", &mut bytes).unwrap();
    for end in 1..bytes.len() {
        let mut payload = Vec::new();
        let outcome = read_frame(&mut &bytes[..end], &mut payload);
        assert!(matches!(outcome, Err(Error::Truncated)), "cut at {end}");
        let mut decoder = Decoder::new();
        assert!(decoder.next(&mut &bytes[..end]).unwrap().is_none());
        assert!(!decoder.at_boundary());
    }
}

#[test]
fn decoder_gives_the_memory_of_large_frames_back() {
    let mut bytes = Vec::new();
    encode(Kind::Stdin, &vec![1; MAX_PAYLOAD], &mut bytes).unwrap();
    let mut decoder = Decoder::new();
    assert!(decoder.next(&mut &bytes[..]).unwrap().is_some());
    assert!(decoder.next(&mut &[][..]).unwrap().is_none());
    assert!(decoder.payload.capacity() <= 4096);
}

//! What grpc-go sends, what nobody should send, and anything at all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use proptest::prelude::*;

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 0x4;
const DATA: u8 = 0x0;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    Frame { length: payload.len(), kind, flags, stream }.write(&mut bytes);
    bytes.put_slice(payload);
    bytes
}

/// The fields of a request of grpc-go.
fn request(authority: &str) -> Fields {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/pluginregistration.Registration/GetInfo"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    fields.map(|(name, value)| (name.into(), value.into())).to_vec()
}

fn pack(encoder: &mut Encoder<'_>, fields: &Fields) -> Vec<u8> {
    encoder.encode(fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())))
}

/// All that comes out if the bytes come in pieces of this size, and how it ended.
fn rewrite(bytes: &[u8], piece: usize) -> (BytesMut, Result<(), Refused>) {
    let (mut rewriter, mut input, mut output) = (Rewriter::default(), BytesMut::new(), BytesMut::new());
    for piece in bytes.chunks(piece) {
        input.put_slice(piece);
        loop {
            match rewriter.step(&mut input, &mut output) {
                Ok(true) => {}
                Ok(false) => break,
                Err(refused) => return (output, Err(refused)),
            }
        }
        assert!(input.len() < FRAME_HEADER_BYTES + limits::HEADER_BYTES, "more is kept than a frame");
    }
    (output, Ok(()))
}

/// Frames as h2 would see them, header blocks opened.
fn read(mut bytes: BytesMut) -> Vec<(u8, u8, u32, Fields)> {
    assert_eq!(&bytes.split_to(PREFACE.len())[..], PREFACE);
    let (mut decoder, mut frames, mut block) = (Decoder::new(), Vec::new(), Vec::new());
    while let Some(frame) = Frame::peek(&bytes) {
        assert!(frame.length <= FRAME_BYTES);
        bytes.advance(FRAME_HEADER_BYTES);
        let payload = bytes.split_to(frame.length);
        let mut fields = Vec::new();
        if [HEADERS, CONTINUATION].contains(&frame.kind) {
            block.extend_from_slice(&payload);
            if frame.flags & END_HEADERS != 0 {
                fields = decoder.decode(&std::mem::take(&mut block)).unwrap();
            }
        }
        frames.push((frame.kind, frame.flags, frame.stream, fields));
    }
    assert!(bytes.is_empty(), "half a frame came out");
    frames
}

#[test]
fn every_authority_of_a_go_client_becomes_lawful_on_every_request_of_a_connection() {
    let odd = [
        "/var/lib/kubelet/plugins_registry/x-reg.sock",
        "%2Fvar%2Flib%2Fkubelet%2Fx-reg.sock",
        "localhost",
        "",
    ];
    for authority in odd {
        let mut encoder = Encoder::new();
        let mut bytes = BytesMut::from(PREFACE);
        bytes.unsplit(frame(SETTINGS, 0, 0, &[]));
        for stream in [1, 3, 5] {
            // From the second on the fields are numbers in the table.
            let packed = pack(&mut encoder, &request(authority));
            bytes.unsplit(frame(HEADERS, END_HEADERS, stream, &packed));
            bytes.unsplit(frame(DATA, END_STREAM, stream, b"message"));
        }
        for piece in [1, 7, bytes.len()] {
            let (output, ended) = rewrite(&bytes, piece);
            ended.unwrap();
            let frames = read(output);
            assert_eq!(frames.len(), 7, "{authority}");
            assert_eq!(frames[0].0, SETTINGS);
            for (index, stream) in [1, 3, 5].into_iter().enumerate() {
                assert_eq!(
                    frames[1 + index * 2],
                    (HEADERS, END_HEADERS, stream, request("localhost")),
                    "{authority}"
                );
                assert_eq!(frames[2 + index * 2], (DATA, END_STREAM, stream, Fields::new()));
            }
        }
    }
}

#[test]
fn a_block_in_parts_with_padding_and_priority_is_one_block() {
    let mut fields = request("/x");
    fields.push((b"grpc-trace-bin".to_vec(), vec![b'x'; 12_000]));
    let packed = pack(&mut Encoder::new(), &fields);
    let mut first = vec![3, 0, 0, 0, 0, 16];
    first.extend_from_slice(&packed[..100]);
    first.extend_from_slice(&[0; 3]);
    let mut bytes = BytesMut::from(PREFACE);
    bytes.unsplit(frame(HEADERS, END_STREAM | PADDED | PRIORITY, 1, &first));
    bytes.unsplit(frame(CONTINUATION, 0, 1, &packed[100..5000]));
    bytes.unsplit(frame(CONTINUATION, END_HEADERS, 1, &packed[5000..]));
    let (output, ended) = rewrite(&bytes, 1000);
    ended.unwrap();
    fields[3].1 = LAWFUL.to_vec();
    assert_eq!(read(output), [(HEADERS, END_STREAM | END_HEADERS, 1, fields)]);
}

#[test]
fn what_is_too_much_or_not_http_2_ends_the_connection() {
    let refusal = |frames: &[BytesMut]| {
        let mut bytes = BytesMut::from(PREFACE);
        frames.iter().for_each(|frame| bytes.put_slice(frame));
        let (output, ended) = rewrite(&bytes, 4096);
        assert_eq!(output.len(), PREFACE.len(), "nothing of it reaches the server");
        ended.unwrap_err()
    };
    assert_eq!(refusal(&[frame(HEADERS, 0, 1, &[0; 20_000])]), Refused::TooLong);
    let part = |kind| frame(kind, 0, 1, &[0; 9000]);
    assert_eq!(refusal(&[part(HEADERS), part(CONTINUATION)]), Refused::TooLong);
    // Parts of nothing, for ever.
    let mut empty = vec![frame(HEADERS, 0, 1, &[])];
    empty.resize(3000, frame(CONTINUATION, 0, 1, &[]));
    assert_eq!(refusal(&empty), Refused::TooLong);
    // A field of 4000 bytes goes into the table once and is then one byte of the block.
    let mut bomb = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    bomb.extend_from_slice(&[b'y'; 4000]);
    bomb.extend_from_slice(&[0xbe; 8000]);
    assert_eq!(refusal(&[frame(HEADERS, END_HEADERS, 1, &bomb)]), Refused::TooLong);
    for other in [frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 3, b"x")] {
        assert_eq!(refusal(&[frame(HEADERS, 0, 1, &[0x82]), other]), Refused::Interrupted);
    }
    assert_eq!(refusal(&[frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x82])]), Refused::Padding);
    assert_eq!(refusal(&[frame(HEADERS, END_HEADERS | PADDED, 1, &[])]), Refused::Padding);
    assert_eq!(refusal(&[frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4])]), Refused::Padding);
    // An index beyond the tables; a table larger than ours; a bare prefix (RUSTSEC-2023-0085).
    for block in [&[0xff, 0x80, 0x01][..], &[0x3f, 0xe1, 0xff, 0x03, 0x82], &[0x3f]] {
        let refused = refusal(&[frame(HEADERS, END_HEADERS, 1, block)]);
        assert!(matches!(refused, Refused::Compression(_)), "{refused}");
    }
}

prop_compose! {
    /// Anything that has the shape of a frame, header frames mostly.
    fn any_frame()(
        kind in prop_oneof![3 => Just(HEADERS), 2 => Just(CONTINUATION), 1 => any::<u8>()],
        flags in any::<u8>(),
        stream in 0u32..4,
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            Just(pack(&mut Encoder::new(), &request("/run/x.sock"))),
        ],
    ) -> BytesMut {
        frame(kind, flags, stream, &payload)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn anything_is_refused_or_rewritten_and_pieces_make_no_difference(
        frames in proptest::collection::vec(any_frame(), 0..20),
        junk in proptest::collection::vec(any::<u8>(), 0..100),
        piece in 1usize..300,
    ) {
        let mut bytes = BytesMut::from(PREFACE);
        frames.iter().for_each(|frame| bytes.put_slice(frame));
        bytes.put_slice(&junk);
        let (whole, ended) = rewrite(&bytes, bytes.len());
        let (pieces, also) = rewrite(&bytes, piece);
        prop_assert_eq!(ended, also);
        prop_assert_eq!(&whole, &pieces);
        let most = bytes.len() + frames.len() * (2 * limits::HEADER_BYTES + 2 * FRAME_HEADER_BYTES);
        prop_assert!(whole.len() <= most);
    }

    #[test]
    fn bytes_without_any_shape_are_refused_or_passed(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let _ = rewrite(&bytes, 64);
    }
}

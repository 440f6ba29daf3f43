//! A lawful `:authority` for every request on our Unix sockets, between the socket and the HTTP/2 of the server.
//!
//! grpc-go makes `:authority` from what was dialled. Kubelets dial a plugin's registration socket by its bare path, up to
//! and including 1.36, and so does the Secrets Store CSI driver with its providers: they send `/var/lib/...`, or since
//! grpc-go 1.57 `%2Fvar%2Flib...`. Neither is an authority (RFC 3986 section 3.2), and h2 answers PROTOCOL_ERROR. On a Unix socket
//! the value means nothing, so it becomes `localhost`, which is what grpc-go itself sends where `unix:` was dialled.
//!
//! Header blocks are compressed with a table that both ends share (HPACK, RFC 7541). So every block is opened and packed
//! again, not only those with a wrong authority; all other frames pass unchanged. It does no IO: bytes in, bytes out.

use bytes::{Buf, BufMut, BytesMut};
use loona_hpack::{Decoder, Encoder};

use crate::limits;

/// RFC 9113 section 3.4; whether it is the right one is for the server to judge.
const PREFACE_BYTES: usize = 24;
/// RFC 9113 section 4.1: length (3), type, flags, stream (4).
const FRAME_HEADER_BYTES: usize = 9;
/// The largest payload that any peer takes: the initial SETTINGS_MAX_FRAME_SIZE, RFC 9113 section 6.5.2.
const FRAME_BYTES: usize = 16_384;
/// The initial SETTINGS_HEADER_TABLE_SIZE, which our server leaves as it is.
const TABLE_BYTES: usize = 4096;
/// What a field counts beyond its bytes, RFC 9113 section 6.5.2.
const FIELD_BYTES: usize = 32;

const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

const AUTHORITY: &[u8] = b":authority";
const LAWFUL: &[u8] = b"localhost";

/// Why a connection cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    /// A header block that is longer than any of ours.
    #[error("the headers of a request take more than {} bytes", limits::HEADER_BYTES)]
    TooLong,
    /// RFC 9113 section 6.10: nothing may come between the parts of a header block.
    #[error("a header block was interrupted by another frame")]
    Interrupted,
    /// The padding or the priority is longer than the frame.
    #[error("a HEADERS frame is shorter than its own padding")]
    Padding,
    /// RFC 7541.
    #[error("a header block is not HPACK: {0}")]
    Compression(loona_hpack::decoder::DecoderError),
}

/// One direction of one connection: what the client sends.
pub struct Rewriter {
    decoder: Decoder<'static>,
    encoder: Encoder<'static>,
    /// Bytes of the preface or of a frame that are still to pass as they are.
    passing: usize,
    /// A header block whose end has not come yet.
    block: Option<Block>,
}

struct Block {
    stream: u32,
    end_stream: u8,
    packed: BytesMut,
    /// Bytes of its frames so far, with their headers: parts without content count as well.
    taken: usize,
}

struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Default for Rewriter {
    fn default() -> Self {
        let mut decoder = Decoder::new();
        decoder.set_max_allowed_table_size(TABLE_BYTES);
        Self { decoder, encoder: Encoder::new(), passing: PREFACE_BYTES, block: None }
    }
}

impl Rewriter {
    /// Takes one step: moves bytes from `input` to `output`, or a frame into the block that is being gathered. `false` if more
    /// input is needed for one. Between two calls `input` never has to hold more than a frame of [`limits::HEADER_BYTES`].
    ///
    /// # Errors
    /// See [`Refused`]; the connection has to be closed.
    pub fn step(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<bool, Refused> {
        if self.passing > 0 {
            let now = self.passing.min(input.len());
            output.put(input.split_to(now));
            self.passing -= now;
            return Ok(now > 0);
        }
        let Some(frame) = Frame::peek(input) else { return Ok(false) };
        match &self.block {
            Some(block) if (frame.kind, frame.stream) != (CONTINUATION, block.stream) => {
                return Err(Refused::Interrupted);
            }
            None if frame.kind != HEADERS => {
                // The frame's header and its payload alike.
                self.passing = FRAME_HEADER_BYTES + frame.length;
                return Ok(true);
            }
            _ => {}
        }
        let taken = self.block.as_ref().map_or(0, |block| block.taken) + FRAME_HEADER_BYTES + frame.length;
        if taken > limits::HEADER_BYTES {
            return Err(Refused::TooLong);
        }
        if input.len() < FRAME_HEADER_BYTES + frame.length {
            return Ok(false);
        }
        input.advance(FRAME_HEADER_BYTES);
        let fragment = frame.fragment(input.split_to(frame.length))?;
        let block = match self.block.take() {
            Some(mut block) => {
                block.packed.unsplit(fragment);
                Block { taken, ..block }
            }
            None => {
                let end_stream = frame.flags & END_STREAM;
                Block { stream: frame.stream, end_stream, packed: fragment, taken }
            }
        };
        if frame.flags & END_HEADERS == 0 {
            self.block = Some(block);
        } else {
            self.rewrite(&block, output)?;
        }
        Ok(true)
    }

    fn rewrite(&mut self, block: &Block, output: &mut BytesMut) -> Result<(), Refused> {
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut room = limits::HEADER_BYTES;
        let mut fits = true;
        let unpacked = self.decoder.decode_with_cb(&block.packed, |name, value| {
            // A few bytes can stand for a field of 4 KiB: what is too much is not even copied.
            match room.checked_sub(name.len() + value.len() + FIELD_BYTES) {
                Some(left) if fits => {
                    room = left;
                    let value = if name == AUTHORITY { LAWFUL.to_vec() } else { value.into_owned() };
                    fields.push((name.into_owned(), value));
                }
                _ => fits = false,
            }
        });
        unpacked.map_err(Refused::Compression)?;
        if !fits {
            return Err(Refused::TooLong);
        }
        let packed =
            self.encoder.encode(fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
        let last = packed.len().div_ceil(FRAME_BYTES).max(1) - 1;
        // An empty block is one empty frame.
        let chunks = packed.chunks(FRAME_BYTES).chain(packed.is_empty().then_some(&[][..]));
        for (index, chunk) in chunks.enumerate() {
            let end = if index == last { END_HEADERS } else { 0 };
            let (kind, flags) =
                if index == 0 { (HEADERS, block.end_stream | end) } else { (CONTINUATION, end) };
            Frame { length: chunk.len(), kind, flags, stream: block.stream }.write(output);
            output.put_slice(chunk);
        }
        Ok(())
    }
}

impl Frame {
    fn peek(input: &BytesMut) -> Option<Frame> {
        let mut header = input.get(..FRAME_HEADER_BYTES)?;
        let length = usize::try_from(header.get_uint(3)).ok()?;
        Some(Frame { length, kind: header.get_u8(), flags: header.get_u8(), stream: header.get_u32() })
    }

    fn write(&self, output: &mut BytesMut) {
        output.put_uint(self.length as u64, 3);
        output.put_u8(self.kind);
        output.put_u8(self.flags);
        output.put_u32(self.stream);
    }

    /// The part of a header block in this frame's payload. Padding goes, and so does the priority, which nobody heeds any more
    /// (RFC 9113 section 5.3.2).
    fn fragment(&self, mut payload: BytesMut) -> Result<BytesMut, Refused> {
        let is_set = |flag| self.kind == HEADERS && self.flags & flag != 0;
        let padding =
            if is_set(PADDED) { usize::from(payload.try_get_u8().map_err(|_| Refused::Padding)?) } else { 0 };
        let priority = if is_set(PRIORITY) { 5 } else { 0 };
        let length = payload.len().checked_sub(padding + priority).ok_or(Refused::Padding)?;
        payload.advance(priority);
        payload.truncate(length);
        Ok(payload)
    }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;

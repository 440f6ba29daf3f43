//! Calls any RPC with any bytes: for tests that walk all of them, and for malformed messages.

use bytes::{Buf, BufMut};
use strongroom_proto::Reason;
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_types::StatusExt;

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        *self
    }

    fn decoder(&mut self) -> Bytes {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        Ok(Some(message.to_vec()))
    }
}

/// The machine-readable reason of a refusal, and after how many milliseconds the server asks to be asked again.
pub fn reason(refused: &Status) -> (Option<Reason>, Option<u64>) {
    let Some(info) = refused.get_details_error_info() else { return (None, None) };
    let after = info.metadata.get("retry_after_ms").and_then(|ms| ms.parse().ok());
    (Reason::parse(&info.reason), after)
}

/// The first message of the answer, of a unary RPC or of a stream.
///
/// # Errors
/// What the server answered instead.
pub async fn call(
    channel: &Channel,
    rpc: &str,
    token: Option<&MetadataValue<Ascii>>,
    message: Vec<u8>,
) -> Result<Option<Vec<u8>>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", token.clone());
    }
    let path = PathAndQuery::try_from(rpc).map_err(|error| Status::internal(error.to_string()))?;
    let mut answers = client.server_streaming(request, path, Bytes).await?.into_inner();
    answers.message().await
}

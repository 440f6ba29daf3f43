//! A connection on one of our Unix sockets: what the client sends goes through [`Rewriter`], what we send goes as it is.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tokio_util::io::poll_read_buf;
use tonic::transport::server::{Connected, UdsConnectInfo};

use crate::{authority::Rewriter, limits};

/// See the module.
pub struct Connection {
    stream: UnixStream,
    rewriter: Rewriter,
    received: BytesMut,
    rewritten: BytesMut,
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        Self { stream, rewriter: Rewriter::default(), received: BytesMut::new(), rewritten: BytesMut::new() }
    }
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, rewriter, received, rewritten } = &mut *self;
        while rewritten.is_empty() {
            let stepped = rewriter.step(received, rewritten).map_err(|refused| {
                tracing::warn!(%refused, "closing a connection on one of the driver's sockets");
                io::Error::new(io::ErrorKind::InvalidData, refused)
            })?;
            if !stepped {
                received.reserve(limits::READ_BYTES);
                if ready!(poll_read_buf(Pin::new(stream), context, received))? == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let now = rewritten.len().min(buffer.remaining());
        buffer.put_slice(&rewritten.split_to(now));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! The preface on the wire: what the caller's proxy asks the callee's, and what it is answered.

use std::borrow::Cow;
use std::io;

use mesh_daemon::identity::tls;
use mesh_engine::preface::{self, Answer, Preface, PrefaceError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::upstream::connect::ConnectError;

/// Why there is no preface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPreface {
    /// The connection ended.
    #[error("read the preface")]
    Io(#[from] io::Error),
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] PrefaceError),
}

/// What a caller's proxy asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Of whom.
    pub(crate) service: String,
    /// Which port.
    pub(crate) port: u16,
    /// Where in a trace it is, as it says.
    pub(crate) trace: Option<String>,
}

/// Reads what a caller's proxy asks for.
pub(crate) async fn read_preface<IO: AsyncRead + Unpin>(io: &mut IO) -> Result<Asked, NoPreface> {
    let mut head = [0; preface::LENGTH_BYTES];
    io.read_exact(&mut head).await?;
    let mut fields = vec![0; preface::length(head)?];
    io.read_exact(&mut fields).await?;
    let preface = Preface::decode(&fields)?;
    Ok(Asked {
        service: preface.service.into_owned(),
        port: preface.port,
        trace: preface.trace.map(Cow::into_owned),
    })
}

/// Asks a callee's proxy for a port. What was read of the client is sent with it, since the callee may
/// want to look at it too.
pub(crate) async fn ask<IO: AsyncRead + AsyncWrite + Unpin>(
    io: &mut IO,
    preface: &[u8],
    read: &[u8],
) -> Result<Answer, ConnectError> {
    let mut answer = [0; 1];
    let asking = async {
        io.write_all(preface).await?;
        io.write_all(read).await?;
        io.flush().await?;
        io.read_exact(&mut answer).await
    };
    match asking.await {
        Ok(_) => Ok(Answer::from_byte(u8::from_be_bytes(answer)).unwrap_or(Answer::Unavailable)),
        // With TLS 1.3 a peer that does not trust us only says so now.
        Err(error) if is_tls(&error) => Err(ConnectError::Tls(tls::tls_reason(&error))),
        Err(_) => Err(ConnectError::Tcp),
    }
}

fn is_tls(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

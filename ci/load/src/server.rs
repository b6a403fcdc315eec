//! The application: answers at once, and with as little work as it can.

use std::net::SocketAddr;

use bytes::Bytes;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{Failure, Serve, grpc};

const READ_BYTES: usize = 64 << 10;
/// Body of an answer whose path asks for no other.
const SMALL: usize = 100;

/// Serves until standard input ends.
pub(crate) async fn run(serve: &Serve) -> Result<(), Failure> {
    let mut servers = tokio::task::JoinSet::new();
    if let Some(address) = serve.http1 {
        let listener = listen(address).await?;
        servers.spawn(async move { accept(listener, http1).await });
    }
    if let Some(address) = serve.grpc {
        let listener = listen(address).await?;
        servers.spawn(async move { accept(listener, grpc::serve).await });
    }
    if let Some(address) = serve.bytes {
        let listener = listen(address).await?;
        servers.spawn(async move { accept(listener, drain).await });
    }
    tokio::select! {
        ended = servers.join_next() => match ended {
            Some(ended) => ended?,
            None => Ok(()),
        },
        read = async { tokio::io::stdin().read_to_end(&mut Vec::new()).await } => Ok(read.map(drop)?),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    Ok(TcpListener::bind(address).await?)
}

async fn accept<F>(listener: TcpListener, serve: fn(TcpStream) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream));
    }
}

/// `/bytes/N` is answered with N bytes. A body must say how long it is.
async fn http1(mut stream: TcpStream) -> Result<(), Failure> {
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    let small = answer(SMALL);
    let mut large: Option<(usize, Bytes)> = None;
    loop {
        let end = loop {
            if let Some(end) = memmem::find(buffer.get(..filled).unwrap_or_default(), b"\r\n\r\n") {
                break end + 4;
            }
            let read = stream
                .read(buffer.get_mut(filled..).unwrap_or_default())
                .await?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
        };
        let (wanted, length) = asked(buffer.get(..end).unwrap_or_default())?;
        // What came with the head is of the body, or the next request.
        let whole = end + length;
        if filled >= whole {
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        } else {
            let mut left = whole - filled;
            filled = 0;
            while left > 0 {
                let most = left.min(buffer.len());
                let read = stream
                    .read(buffer.get_mut(..most).unwrap_or_default())
                    .await?;
                if read == 0 {
                    return Ok(());
                }
                left -= read;
            }
        }
        let bytes = match (wanted, &large) {
            (None, _) => &small,
            (Some(wanted), Some((made, bytes))) if *made == wanted => bytes,
            (Some(wanted), _) => &large.insert((wanted, answer(wanted))).1,
        };
        stream.write_all(bytes).await?;
    }
}

fn answer(length: usize) -> Bytes {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")
            .into_bytes();
    bytes.resize(bytes.len() + length, b'y');
    bytes.into()
}

/// How many bytes a head asks for, and how many come after it.
fn asked(head: &[u8]) -> Result<(Option<usize>, usize), Failure> {
    let text = std::str::from_utf8(head)?;
    let target = text.split(' ').nth(1).ok_or("no target")?;
    let wanted = match target.strip_prefix("/bytes/") {
        Some(number) => Some(number.parse()?),
        None => None,
    };
    let mut length = 0;
    for line in text.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("chunks are not read".into());
        }
    }
    Ok((wanted, length))
}

/// Takes bytes, and says at the end how many they were.
async fn drain(mut stream: TcpStream) -> Result<(), Failure> {
    let mut buffer = vec![0; 4 * READ_BYTES];
    let mut bytes: u64 = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    stream.write_all(&bytes.to_be_bytes()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_head_asks_for() {
        let asked = |text: &str| asked(text.as_bytes());
        assert_eq!(
            asked("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap(),
            (None, 0)
        );
        let both = "POST /bytes/7 HTTP/1.1\r\ncontent-length: 12\r\n\r\n";
        assert_eq!(asked(both).unwrap(), (Some(7), 12));
        assert!(asked("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}

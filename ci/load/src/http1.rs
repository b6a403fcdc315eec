//! Requests over HTTP/1.1 on connections that stay, each sent when the answer before it has come. It reads no
//! more of HTTP than an answer of the measured kind has.

use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::report::{Report, Tally};
use crate::{Drive, Failure};

const HEAD_BYTES_MAX: usize = 16 << 10;
const READ_BYTES: usize = 64 << 10;

/// Drives until the time is over.
pub(crate) async fn run(drive: &Drive) -> Result<Report, Failure> {
    let start = Instant::now();
    let until = start + Duration::from_millis(drive.millis);
    let connections: Vec<_> = (0..drive.connections)
        .map(|number| tokio::spawn(connection(drive.clone(), number, until)))
        .collect();
    let mut tallies = Vec::new();
    let mut open = Vec::new();
    for connection in connections {
        let (tally, stream) = connection.await?;
        tallies.push(tally);
        open.push(stream);
    }
    let report = Report::sum(tallies, start);
    if drive.hold {
        hold().await?;
    }
    drop(open);
    Ok(report)
}

/// Says that all that was to be sent was, and waits.
#[expect(
    clippy::print_stdout,
    reason = "whoever started it waits for this line"
)]
async fn hold() -> Result<(), Failure> {
    println!("holding");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

async fn connection(drive: Drive, number: usize, until: Instant) -> (Tally, Option<TcpStream>) {
    let mut tally = Tally::default();
    let requests = requests(&drive);
    let mut buffer = vec![0; READ_BYTES];
    let mut stream = None;
    let mut turn = number;
    // One that is held has been used once.
    while Instant::now() < until && !(drive.hold && tally.done > 0) {
        let mut open = match stream.take() {
            Some(stream) => stream,
            None => match connect(&drive).await {
                Ok(stream) => stream,
                Err(failure) => {
                    tally.fail(&failure);
                    break;
                }
            },
        };
        let sent = Instant::now();
        let request = requests
            .get(turn % requests.len())
            .map_or(&[][..], Vec::as_slice);
        let outcome = exchange(&mut open, request, &mut buffer).await;
        if outcome.is_ok() {
            stream = Some(open);
        }
        tally.add(outcome, sent.elapsed());
        turn += 1;
    }
    (tally, stream)
}

async fn connect(drive: &Drive) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(drive.to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The bytes of the requests, by path.
pub(crate) fn requests(drive: &Drive) -> Vec<Vec<u8>> {
    let request = |path: &String| {
        let method = if drive.body == 0 { "GET" } else { "POST" };
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: mesh-load\r\nAccept: */*\r\n",
            drive.host
        );
        if drive.body > 0 {
            text.extend(["Content-Length: ", &drive.body.to_string(), "\r\n"]);
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len() + drive.body, b'x');
        bytes
    };
    drive.path.iter().map(request).collect()
}

async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut [u8],
) -> Result<usize, Failure> {
    let (mut reading, mut writing) = stream.split();
    if request.len() < READ_BYTES {
        writing.write_all(request).await?;
        return answer(&mut reading, buffer).await;
    }
    // A large body is taken while the answer may begin.
    let sending = async {
        writing.write_all(request).await?;
        Ok(())
    };
    let (_sent, bytes) = tokio::try_join!(sending, answer(&mut reading, buffer))?;
    Ok(bytes)
}

/// Reads one answer; the length of its body.
pub(crate) async fn answer(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
) -> Result<usize, Failure> {
    let mut filled = 0;
    let (head, length) = loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        let read = stream.read(room).await?;
        if read == 0 {
            return Err("the connection ended within an answer".into());
        }
        filled += read;
        if let Some(found) = head(buffer.get(..filled).unwrap_or_default())? {
            break found;
        }
        if filled >= HEAD_BYTES_MAX {
            return Err("the head of an answer is too long".into());
        }
    };
    let mut left = (head + length)
        .checked_sub(filled)
        .ok_or("more than an answer came")?;
    while left > 0 {
        let read = stream.read(buffer).await?;
        if read == 0 {
            return Err("the connection ended within a body".into());
        }
        left = left.checked_sub(read).ok_or("more than an answer came")?;
    }
    Ok(length)
}

/// The length of a head and of the body after it, once the head is whole.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    if !text.starts_with("HTTP/1.1 200") {
        return Err(format!("answered {text:?}").into());
    }
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok(Some((end + 4, value.trim().parse()?)));
        }
    }
    Err(format!("an answer without a length: {text:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(head(whole).unwrap(), Some((whole.len() - 3, 3)));
        assert_eq!(head(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap(), None);
        assert!(head(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}

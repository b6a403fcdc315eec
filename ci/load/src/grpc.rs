//! Unary gRPC, by hand over HTTP/2: both ends.

use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, client, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use crate::report::{Report, Tally};
use crate::{Drive, Failure};

/// Bytes of a message.
const MESSAGE: usize = 100;
const WINDOW: u32 = 1 << 20;

fn message() -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + MESSAGE);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(MESSAGE).unwrap_or_default());
    bytes.put_bytes(b'm', MESSAGE);
    bytes.freeze()
}

/// Answers the calls of one connection.
pub(crate) async fn serve(stream: TcpStream) -> Result<(), Failure> {
    let mut connection = server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake::<_, Bytes>(stream)
        .await?;
    let message = message();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(reply(request.into_body(), respond, message.clone()));
    }
    Ok(())
}

async fn reply(
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    message: Bytes,
) -> Result<(), Failure> {
    read(&mut body).await?;
    let head = Response::builder().header("content-type", "application/grpc");
    let mut stream = respond.send_response(head.body(())?, false)?;
    stream.send_data(message, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}

async fn read(body: &mut RecvStream) -> Result<usize, Failure> {
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        bytes += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(bytes)
}

/// Drives until the time is over.
pub(crate) async fn run(drive: &Drive) -> Result<Report, Failure> {
    let start = Instant::now();
    let until = start + Duration::from_millis(drive.millis);
    let mut streams = Vec::new();
    for _ in 0..drive.connections {
        let stream = TcpStream::connect(drive.to).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake::<_, Bytes>(stream)
            .await?;
        tokio::spawn(connection);
        for _ in 0..drive.streams {
            streams.push(tokio::spawn(calls(drive.clone(), sender.clone(), until)));
        }
    }
    let mut tallies = Vec::new();
    for stream in streams {
        tallies.push(stream.await?);
    }
    Ok(Report::sum(tallies, start))
}

async fn calls(drive: Drive, mut sender: SendRequest<Bytes>, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let message = message();
    while Instant::now() < until {
        let sent = Instant::now();
        let outcome = call(&drive, &mut sender, message.clone()).await;
        let failed = outcome.is_err();
        tally.add(outcome, sent.elapsed());
        if failed {
            break;
        }
    }
    tally
}

async fn call(
    drive: &Drive,
    sender: &mut SendRequest<Bytes>,
    message: Bytes,
) -> Result<usize, Failure> {
    std::future::poll_fn(|cx| sender.poll_ready(cx)).await?;
    let path = drive.path.first().map_or("/", String::as_str);
    let request = Request::post(format!("http://{}{path}", drive.host))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (answer, mut stream) = sender.send_request(request.body(())?, false)?;
    stream.send_data(message, true)?;
    let answer = answer.await?;
    let status = answer.status();
    let head = answer.headers().get("grpc-status").cloned();
    let mut body = answer.into_body();
    let bytes = read(&mut body).await?;
    let trailers = body.trailers().await?;
    let ended = trailers
        .and_then(|trailers| trailers.get("grpc-status").cloned())
        .or(head);
    match ended {
        Some(value) if value == "0" => Ok(bytes),
        other => Err(format!("answered {status}, gRPC status {other:?}").into()),
    }
}

//! Clients of every kind. Each does what good clients do: it connects where its balancer says, keeps its connection until
//! it is told to end it, and sends again what was refused before anybody had looked at it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_tests::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{Balancer, Tally, Target};

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(20);

/// Messages of one stream, and between two of them.
const MESSAGES: usize = 10;

const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\n\
Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A short text, masked with zeros (RFC 6455 section 5.2).
const FRAME: &[u8] = b"\x81\x85\0\0\0\0hello";

pub(crate) async fn is_ready(health: SocketAddr) -> bool {
    let asking = async {
        let mut tcp = TcpStream::connect(health).await?;
        tcp.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    asking
        .await
        .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

type Kind = (&'static str, Arc<Tally>);

/// All clients.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tallies: Vec<Kind>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients of each kind.
    pub(crate) fn start(runtime: &Runtime, balancer: &Arc<Balancer>, each: usize) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            tallies: Vec::new(),
            clients: Vec::new(),
        };
        let kinds = ["http/1.1", "http/2", "grpc streams", "websockets", "tcp"];
        for kind in kinds {
            let tally = Arc::<Tally>::default();
            load.tallies.push((kind, Arc::clone(&tally)));
            for _ in 0..each {
                let client = Client {
                    balancer: Arc::clone(balancer),
                    stop: Arc::clone(&load.stop),
                    tally: Arc::clone(&tally),
                };
                load.clients.push(match kind {
                    "http/1.1" => runtime.spawn(client.http1()),
                    "http/2" => runtime.spawn(client.http2()),
                    "grpc streams" => runtime.spawn(client.streams()),
                    "websockets" => runtime.spawn(client.websockets()),
                    _ => runtime.spawn(client.bytes()),
                });
            }
        }
        load
    }

    /// Whether each kind has had some answers.
    pub(crate) fn is_under_way(&self) -> Result<(), Failure> {
        let few = |(_, tally): &&Kind| tally.good.load(Ordering::Relaxed) < 5;
        match self.tallies.iter().find(few) {
            None => Ok(()),
            Some((kind, tally)) => Err(Failure::new(format!("{kind}: {tally:?}"))),
        }
    }

    /// Lets every client finish what it has begun.
    pub(crate) fn end(self) -> Vec<Kind> {
        self.stop.store(true, Ordering::Relaxed);
        while !self.clients.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(PAUSE);
        }
        self.tallies
    }
}

struct Client {
    balancer: Arc<Balancer>,
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Requests over a connection that is kept.
    async fn http1(self) {
        let mut kept = None;
        while self.goes_on() {
            let result = self.http1_once(&mut kept).await;
            if result.is_err() {
                kept = None;
            }
            self.tally.count(result);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn http1_once(
        &self,
        kept: &mut Option<http1::SendRequest<Empty<Bytes>>>,
    ) -> Result<(), Failure> {
        let mut sender = match kept.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => {
                let tcp = TcpStream::connect(self.balancer.pick().http).await?;
                let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
                tokio::spawn(connection);
                sender
            }
        };
        sender.ready().await?;
        let request = Request::get("/").header(header::HOST, "shop.example");
        let answer = sender.send_request(request.body(Empty::new())?).await?;
        let closes = answer.headers().get(header::CONNECTION);
        let closes = closes.is_some_and(|value| value == "close");
        read(answer).await?;
        *kept = (!closes).then_some(sender);
        Ok(())
    }

    /// Requests over a connection of many.
    async fn http2(self) {
        let mut kept = None;
        while self.goes_on() {
            let result = self.http2_once(&mut kept).await;
            if result.is_err() {
                kept = None;
            }
            self.tally.count(result);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn http2_once(
        &self,
        kept: &mut Option<http2::SendRequest<Empty<Bytes>>>,
    ) -> Result<(), Failure> {
        let mut request = Request::get("http://shop.example/").body(Empty::new())?;
        // GOAWAY may come between asking whether one may and sending; then nothing has been sent.
        for _ in 0..3 {
            let mut open = kept.take();
            if let Some(sender) = &mut open
                && sender.ready().await.is_err()
            {
                open = None;
            }
            let mut sender = match open {
                Some(sender) => sender,
                None => connect_http2(self.balancer.pick().http).await?,
            };
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    read(answer).await?;
                    *kept = Some(sender);
                    return Ok(());
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    // A client that keeps what it sends, as this one does, sends it again.
                    None if is_left_out(error.error()) => {
                        request = Request::get("http://shop.example/").body(Empty::new())?;
                    }
                    None => return Err(error.into_error().into()),
                },
            }
        }
        Err(Failure::new("refused three times"))
    }

    /// Streams of messages in both directions, each over some time.
    async fn streams(self) {
        while self.goes_on() {
            self.tally.count(stream(self.balancer.pick().http).await);
        }
    }

    async fn websockets(self) {
        while self.goes_on() {
            let talking = async {
                let mut tcp = upgrade(self.balancer.pick().http).await?;
                echoed(&mut tcp, FRAME).await
            };
            self.tally.count(talking.await);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn bytes(self) {
        while self.goes_on() {
            let talking = async {
                let mut tcp = TcpStream::connect(self.balancer.pick().bytes).await?;
                echoed(&mut tcp, b"hello").await
            };
            self.tally.count(talking.await);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// RFC 9113 section 6.8: nobody has looked at a stream that a GOAWAY leaves out.
fn is_left_out(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref::<h2::Error>() {
            return error.is_go_away()
                && error.is_remote()
                && error.reason() == Some(h2::Reason::NO_ERROR);
        }
        cause = found.source();
    }
    false
}

pub(crate) async fn connect_http2<B>(to: SocketAddr) -> Result<http2::SendRequest<B>, Failure>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let tcp = TcpStream::connect(to).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn read(answer: Response<Incoming>) -> Result<(), Failure> {
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if status == 200 && body == "ok\n" {
        return Ok(());
    }
    Err(Failure::new(format!("{status}: {body:?}")))
}

/// One stream of gRPC: each message comes back before the next one goes, and so do the trailers.
async fn stream(to: SocketAddr) -> Result<(), Failure> {
    let mut sender = connect_http2(to).await?;
    let (messages, mut sent) = tokio::sync::mpsc::channel(1);
    let frames = futures_util::stream::poll_fn(move |cx| {
        sent.poll_recv(cx)
            .map(|frame| frame.map(Ok::<_, Infallible>))
    });
    let body = StreamBody::new(frames);
    let request = Request::post("http://shop.example/chat/Talk")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(body)?;
    let asking = sender.send_request(request);
    let message = Bytes::from_static(b"\0\0\0\0\x05hello");
    let talking = async {
        messages.send(Frame::data(message.clone())).await?;
        let mut echo = asking.await?.into_body();
        for number in 1..=MESSAGES {
            let mut got = 0;
            while got < message.len() {
                let frame = echo
                    .frame()
                    .await
                    .ok_or_else(|| Failure::new("the stream ended"))??;
                got += frame.data_ref().map_or(0, Bytes::len);
            }
            if number < MESSAGES {
                tokio::time::sleep(PAUSE).await;
                messages.send(Frame::data(message.clone())).await?;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        messages.send(Frame::trailers(trailers)).await?;
        drop(messages);
        let rest = echo.collect().await?;
        let status = rest.trailers().and_then(|all| all.get("grpc-status"));
        match status {
            Some(status) if status == "0" => Ok(()),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    };
    talking.await
}

/// Has a connection become a WebSocket.
async fn upgrade(to: SocketAddr) -> Result<TcpStream, Failure> {
    let mut tcp = TcpStream::connect(to).await?;
    tcp.write_all(UPGRADE).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 101 ") {
        return Ok(tcp);
    }
    Err(Failure::new(String::from_utf8_lossy(&head).into_owned()))
}

async fn echoed(tcp: &mut TcpStream, bytes: &[u8]) -> Result<(), Failure> {
    tcp.write_all(bytes).await?;
    let mut echo = vec![0; bytes.len()];
    tcp.read_exact(&mut echo).await?;
    if echo == bytes {
        return Ok(());
    }
    Err(Failure::new(format!("{echo:?}")))
}

/// One of each kind, over connections that come late.
pub(crate) async fn late(target: &Target) -> Result<(), Failure> {
    let mut websocket = upgrade(target.http).await?;
    echoed(&mut websocket, FRAME).await?;
    echoed(&mut TcpStream::connect(target.bytes).await?, b"hello").await?;
    stream(target.http).await?;
    let mut sender = connect_http2(target.http).await?;
    let request = Request::get("http://shop.example/").body(Empty::<Bytes>::new())?;
    read(sender.send_request(request).await?).await
}

/// Connections that nobody ends.
pub(crate) struct Staying(Vec<(TcpStream, &'static [u8])>);

impl Staying {
    /// So many WebSockets, and as many connections of bytes.
    pub(crate) async fn open(target: &Target, each: usize) -> Result<Self, Failure> {
        let mut open = Vec::new();
        for _ in 0..each {
            open.push((upgrade(target.http).await?, FRAME));
            open.push((TcpStream::connect(target.bytes).await?, &b"hello"[..]));
        }
        let mut staying = Self(open);
        staying.pass().await?;
        Ok(staying)
    }

    async fn pass(&mut self) -> Result<(), Failure> {
        for (tcp, bytes) in &mut self.0 {
            echoed(tcp, bytes).await?;
        }
        Ok(())
    }

    /// That the drain has not touched them.
    pub(crate) async fn still_pass(&mut self) -> Result<(), Failure> {
        self.pass().await
    }

    /// How many were ended so that nobody takes it for an end of their own.
    pub(crate) async fn ended(self) -> Result<usize, Failure> {
        let mut cut = 0;
        for (mut tcp, _) in self.0 {
            let mut rest = Vec::new();
            let reading = tcp.read_to_end(&mut rest);
            let ended = tokio::time::timeout(Duration::from_secs(10), reading).await?;
            cut += usize::from(ended.is_err());
        }
        Ok(cut)
    }
}

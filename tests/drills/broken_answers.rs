//! D11: an application breaks an answer off after it has begun: by a reset, by closing, or within HTTP/2. Whoever asked
//! sees that it is not whole, in every version, and nothing of it is asked for twice.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_tests::{Failure, wait_until};
use socket2::SockRef;

use crate::mesh::{LIMIT, Mesh, With};
use crate::say;

/// Both of what may be retried and of what may not must be tried once.
const POLICY: &str =
    r#"    route everyone { retry "5xx" reset connect-failure attempts=3 methods=any }"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// HTTP/1.1 with a length.
    Length,
    /// HTTP/1.1 in chunks.
    Chunks,
    /// HTTP/1.1 until the connection ends; closing is its good end.
    UntilEnd,
    Http2,
    Grpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// RST of TCP.
    Reset,
    /// FIN of TCP.
    Close,
    /// RST_STREAM of HTTP/2.
    ResetStream,
}

/// How the next answer goes.
#[derive(Clone, Copy, Debug)]
struct Plan {
    form: Form,
    /// How much of it is sent.
    bytes: usize,
    how: Break,
}

/// An application that breaks its answers off as planned, once it is told that they have begun.
struct Breaking {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    requests: Arc<AtomicUsize>,
    go: mpsc::Sender<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Breaking {
    fn start(plan: Plan) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (go, gone) = mpsc::channel();
        let breaking = Self {
            address,
            plan: Arc::new(Mutex::new(plan)),
            requests: Arc::default(),
            go,
        };
        let (plan, requests) = (Arc::clone(&breaking.plan), Arc::clone(&breaking.requests));
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let plan = *lock(&plan);
                // What a peer does to a connection is no failure of this one.
                let _broken = answer(&tcp, plan, &requests, &gone).is_err();
            }
        });
        Ok(breaking)
    }
}

fn answer(
    tcp: &TcpStream,
    plan: Plan,
    requests: &AtomicUsize,
    gone: &mpsc::Receiver<()>,
) -> Result<(), Failure> {
    let mut io = tcp;
    let is_http2 = matches!(plan.form, Form::Http2 | Form::Grpc);
    let (head, stream) = if is_http2 {
        let stream = asked_http2(io)?;
        (head_http2(stream, plan.form), stream)
    } else {
        asked_http1(io)?;
        (head_http1(plan).into_bytes(), 0)
    };
    requests.fetch_add(1, Ordering::SeqCst);
    io.write_all(&head)?;
    if plan.bytes > 0 {
        let data = vec![b'x'; plan.bytes];
        match plan.form {
            Form::Length | Form::UntilEnd => io.write_all(&data)?,
            Form::Chunks => {
                write!(io, "{:x}\r\n", data.len())?;
                io.write_all(&data)?;
                io.write_all(b"\r\n")?;
            }
            Form::Http2 | Form::Grpc => {
                for piece in data.chunks(16 * 1024) {
                    io.write_all(&frame(0, 0, stream, piece))?;
                }
            }
        }
    }
    gone.recv_timeout(LIMIT)?;
    match plan.how {
        Break::Reset => SockRef::from(tcp).set_linger(Some(Duration::ZERO))?,
        Break::Close => {}
        Break::ResetStream => {
            // INTERNAL_ERROR; the connection stays until its other end has seen it.
            io.write_all(&frame(3, 0, stream, &[0, 0, 0, 2]))?;
            gone.recv_timeout(LIMIT)?;
        }
    }
    Ok(())
}

fn asked_http1(mut tcp: &TcpStream) -> Result<(), Failure> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(())
}

fn head_http1(plan: Plan) -> String {
    let framing = match plan.form {
        // Never all of it.
        Form::Length => format!("content-length: {}\r\n", plan.bytes + 100),
        Form::Chunks => "transfer-encoding: chunked\r\n".to_owned(),
        _ => String::new(),
    };
    format!("HTTP/1.1 200 OK\r\n{framing}\r\n")
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut frame = Vec::with_capacity(9 + payload.len());
    frame.extend(&length[1..]);
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Reads until a request has come; its stream.
fn asked_http2(mut tcp: &TcpStream) -> Result<u32, Failure> {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const ACK: u8 = 1;
    let mut preface = [0; 24];
    tcp.read_exact(&mut preface)?;
    tcp.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let mut head = [0; 9];
        tcp.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c]))?];
        tcp.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => tcp.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            HEADERS => return Ok(u32::from_be_bytes(stream)),
            _ => {}
        }
    }
}

fn head_http2(stream: u32, form: Form) -> Vec<u8> {
    // `:status: 200` of the static table; `content-type` by its place there (RFC 7541 section 6).
    let mut fields = vec![0x88];
    if form == Form::Grpc {
        fields.extend([0x0f, 0x10, 16]);
        fields.extend(b"application/grpc");
    }
    frame(1, 4, stream, &fields)
}

/// What a client saw of an answer.
#[derive(Debug)]
struct Seen {
    is_whole: bool,
    bytes: usize,
    trailers: Option<HeaderMap>,
}

fn ask_http1(mesh: &Mesh, breaking: &Breaking) -> Result<Seen, Failure> {
    let mut client = TcpStream::connect(mesh.web.outbound)?;
    client.set_read_timeout(Some(LIMIT))?;
    client.write_all(b"GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")?;
    let mut got = Vec::new();
    let head = loop {
        let at = got.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(at) = at {
            break at + 4;
        }
        let mut buffer = [0; 4096];
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Err(Failure::new("no head"));
        }
        got.extend(&buffer[..read]);
    };
    breaking.go.send(())?;
    let ended = client.read_to_end(&mut got);
    let (head, body) = got.split_at(head);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let is_whole = match length {
        Some(length) => length.trim().parse::<usize>()? == body.len(),
        None => body.ends_with(b"0\r\n\r\n"),
    };
    let bytes = String::from_utf8_lossy(body).matches('x').count();
    Ok(Seen {
        is_whole: is_whole && ended.is_ok(),
        bytes,
        trailers: None,
    })
}

async fn ask_http2(mesh: &Mesh, plan: Plan, breaking: &Breaking) -> Result<Seen, Failure> {
    let tcp = tokio::net::TcpStream::connect(mesh.web.outbound).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::post("http://api/a.B/C");
    if plan.form == Form::Grpc {
        request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers");
    }
    let response = sender
        .send_request(request.body(Empty::<&[u8]>::new())?)
        .await?;
    breaking.go.send(())?;
    let mut body = response.into_body();
    let mut seen = Seen {
        is_whole: true,
        bytes: 0,
        trailers: None,
    };
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => seen.bytes += data.len(),
            Ok(Err(frame)) => seen.trailers = frame.into_trailers().ok(),
            Err(_broken) => {
                seen.is_whole = false;
                break;
            }
        }
    }
    if plan.how == Break::ResetStream {
        breaking.go.send(())?;
    }
    drop(sender);
    connection.await??;
    Ok(seen)
}

#[test]
fn what_breaks_off_is_seen_to_and_is_asked_for_once() -> Result<(), Failure> {
    let first = Plan {
        form: Form::Length,
        bytes: 0,
        how: Break::Reset,
    };
    let breaking = Breaking::start(first)?;
    let none = With::default();
    let mesh = Mesh::start_with(breaking.address, POLICY, &none, &none)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut asked, mut broken) = (0, 0);
    for form in [
        Form::Length,
        Form::Chunks,
        Form::UntilEnd,
        Form::Http2,
        Form::Grpc,
    ] {
        let is_http2 = matches!(form, Form::Http2 | Form::Grpc);
        for how in [Break::Reset, Break::Close, Break::ResetStream] {
            if how == Break::ResetStream && !is_http2 {
                continue;
            }
            for bytes in [0, 1, 1_000, 60_000] {
                let plan = Plan { form, bytes, how };
                *lock(&breaking.plan) = plan;
                // The connection may have ended before the request came to it; then nobody was asked.
                let seen = loop {
                    let limited = async {
                        let asking = ask_http2(&mesh, plan, &breaking);
                        tokio::time::timeout(LIMIT, asking).await?
                    };
                    let seen = if is_http2 {
                        runtime.block_on(limited)
                    } else {
                        ask_http1(&mesh, &breaking)
                    };
                    let seen = seen.map_err(|failure| failure.while_doing(format!("{plan:?}")))?;
                    if breaking.requests.load(Ordering::SeqCst) > asked {
                        break seen;
                    }
                };
                asked += 1;
                assert_eq!(breaking.requests.load(Ordering::SeqCst), asked, "{plan:?}");
                // A reset may overtake what was sent before it.
                assert!(seen.bytes <= bytes, "{plan:?} {seen:?}");
                if form == Form::UntilEnd && how == Break::Close {
                    assert!(seen.is_whole && seen.bytes == bytes, "{plan:?} {seen:?}");
                    continue;
                }
                broken += 1;
                if form == Form::Grpc {
                    let status = seen
                        .trailers
                        .as_ref()
                        .and_then(|all| all.get("grpc-status"));
                    assert_eq!(
                        status.map(http::HeaderValue::as_bytes),
                        Some(b"14".as_slice()),
                        "{plan:?} {seen:?}"
                    );
                } else {
                    assert!(!seen.is_whole, "{plan:?} {seen:?}");
                }
            }
        }
    }
    wait_until("the records of all answers", LIMIT, || {
        let text = std::fs::read_to_string(mesh.api.home.join("access.log"))?;
        let told = text
            .lines()
            .filter(|line| line.contains("\"upstream_reset\""))
            .count();
        if told >= broken {
            return Ok(());
        }
        Err(Failure::new(format!("{told} of {broken}: {text}")))
    })?;
    say(&format!(
        "D11: {asked} answers, {broken} broken off: none looked whole, none was asked for twice"
    ));
    Ok(())
}
